"""Loops over the dataset inside a tf.function, where it is part of the graph."""

import tensorflow as tf

data = tf.data.Dataset.range(512).map(lambda i: tf.cast(i, tf.float32)).batch(32)
weight = tf.Variable(0.5)


@tf.function
def epoch():
    for batch in data:
        weight.assign_sub(1e-9 * tf.reduce_mean(batch))


for _ in range(4000):
    epoch()
