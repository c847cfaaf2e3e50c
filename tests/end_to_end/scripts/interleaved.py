"""A custom loop over a dataset that interleaves ten sources, in the order they come."""

import tensorflow as tf

sources = tf.data.Dataset.range(10)
data = sources.interleave(
    lambda k: tf.data.Dataset.range(k * 1000, k * 1000 + 400), cycle_length=4, block_length=2
)
data = data.batch(16).repeat(200)
total = tf.Variable(0, dtype=tf.int64)


@tf.function
def step(batch):
    total.assign_add(tf.reduce_sum(batch))


for batch in data:
    step(batch)
