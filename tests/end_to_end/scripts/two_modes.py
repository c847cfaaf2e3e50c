"""Every third step does four times the work, as where shapes alternate."""

import tensorflow as tf

small, large = tf.random.normal((256, 256)), tf.random.normal((256, 256))


@tf.function
def work(x, rounds):
    for _ in tf.range(rounds):
        x = tf.matmul(x, x) / 256.0
    return x


for step in range(1_000_000):
    work(small, tf.constant(160 if step % 3 == 0 else 40))
