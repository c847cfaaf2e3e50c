import numpy as np
import tensorflow as tf

model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse", steps_per_execution=8)
x = np.ones((6400, 8), "float32")
model.fit(x, x[:, :1], epochs=1000, batch_size=10, verbose=0)
