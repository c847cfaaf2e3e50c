import tensorflow as tf

weights = tf.Variable(tf.ones((8, 1)))
data = tf.data.Dataset.range(4_000).map(lambda i: tf.ones((8,)) * tf.cast(i, tf.float32))
data = data.batch(20).prefetch(3)
validation = tf.data.Dataset.range(40).batch(4)


def train():
    for epoch in range(1000):
        for batch in data:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.matmul(batch, weights) ** 2)
            weights.assign_sub(1e-9 * tape.gradient(loss, weights))
        for _ in validation:
            pass


train()
