"""keras fit with a callback of its own that wants to hear of each batch."""

import keras
import numpy as np


class Watch(keras.callbacks.Callback):
    """Counts batches."""

    seen = 0

    def on_train_batch_end(self, batch, logs=None):
        """Count one."""
        self.seen += 1


x = np.random.default_rng(0).standard_normal((3200, 16), dtype="float32")
model = keras.Sequential([keras.layers.Input((16,)), keras.layers.Dense(32), keras.layers.Dense(1)])
model.compile("sgd", "mse")
watch = Watch()
model.fit(x, x[:, :1], batch_size=32, epochs=200, verbose=0, callbacks=[watch])
print("batches heard of:", watch.seen)
