"""Each step does a little more than the one before, as with a list that grows."""

import tensorflow as tf


@tf.function
def work(x, rounds):
    for _ in tf.range(rounds):
        x = tf.matmul(x, x) / 128.0
    return x


matrix = tf.random.normal((128, 128))
for step in range(1_000_000):
    work(matrix, tf.constant(100 + step))
