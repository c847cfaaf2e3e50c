import numpy as np
import tensorflow as tf

inputs = tf.keras.layers.Input((8,))
model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(inputs))
for _ in range(100_000):
    model.predict(np.ones((96, 8), "float32"), verbose=0)
