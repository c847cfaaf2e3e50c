import time

import tensorflow as tf

data = tf.data.Dataset.range(1_000).batch(10).repeat()
while True:  # a new iterator for each batch: slow, and seen in the wild
    batch = next(iter(data))
    time.sleep(0.02)
