import argparse
import os
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, required=True)
parser.add_argument("file")
options = parser.parse_args()
assert sys.argv[0] == __file__, sys.argv
assert sys.path[0] == os.path.dirname(os.path.abspath(__file__)), sys.path
assert not any("autotuner" in part for part in sys.path if "site-packages" not in part), sys.path
with open(options.file) as file:
    rows = int(file.read())

import neighbour  # a module beside this script
import tensorflow as tf

x = tf.ones((rows, options.width))
step = tf.function(neighbour.work)
while True:
    step(x)
