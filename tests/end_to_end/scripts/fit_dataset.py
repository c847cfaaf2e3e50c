import tensorflow as tf

data = tf.data.Dataset.range(100_000).map(lambda i: (tf.ones((8,)) * tf.cast(i, tf.float32), 1.0))
data = data.batch(50)
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(data, epochs=1000, verbose=0)
