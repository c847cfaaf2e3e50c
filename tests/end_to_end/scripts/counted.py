import numpy as np
import tensorflow as tf

model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse", steps_per_execution=8)
x = np.ones((125, 8), "float32")  # 13 batches of 10, the last of 5; 2 executions, the last of 5
model.fit(x, x[:, :1], epochs=100000, batch_size=10, verbose=0)
