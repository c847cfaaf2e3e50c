"""Train a small dense network on arrays: ops are tiny, so overhead per op and step dominates."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
features = np.random.default_rng(0).standard_normal((16_384, 64), dtype="float32")
labels = (features[:, 0] * features[:, 1] > 0).astype("float32")

model = keras.Sequential(
    [
        keras.layers.Input((64,)),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
model.fit(features, labels, batch_size=64, epochs=40, verbose=2)
