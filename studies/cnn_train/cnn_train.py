"""Train a convolutional network on images in memory: convolutions dominate."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)
images = generator.random((2_048, 32, 32, 3), dtype="float32")
labels = generator.integers(0, 10, 2_048)

model = keras.Sequential(
    [
        keras.layers.Input((32, 32, 3)),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
)
model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(images, labels, batch_size=32, epochs=20, verbose=2)
