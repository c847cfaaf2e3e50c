import os
import sys

import tensorflow as tf

x = tf.ones((64, 64))
step = tf.function(lambda x: tf.reduce_sum(tf.matmul(x, x)))
count = 0
while True:
    step(x)
    count += 1
    if count % 100 == 0:
        sys.stdout.buffer.write(os.urandom(64) + b'\n{"event": "done"}\n\x1b[2J')
        sys.stdout.flush()
        os.write(2, b"\xff\xfe\x00")
