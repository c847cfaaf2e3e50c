import numpy as np
import tensorflow as tf

model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((640, 8), "float32")
for _ in range(1000):  # one epoch a call, with an evaluation between: two phases
    model.fit(x, x[:, :1], epochs=1, batch_size=64, verbose=0, validation_data=(x, x[:, :1]))
    model.evaluate(x, x[:, :1], verbose=0)
