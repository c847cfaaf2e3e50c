import tensorflow as tf


@tf.function
def infer(x):
    return tf.reduce_sum(tf.matmul(x, x))


x = tf.ones((64, 64))
for _ in range(10_000_000):
    infer(x)
