"""Predict with a small transformer, batch after batch: attention and matrix products."""

import keras
import numpy as np

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS, BATCH, CALLS = 1_000, 64, 128, 4, 3, 16, 400

keras.utils.set_random_seed(0)


def block(hidden: keras.KerasTensor) -> keras.KerasTensor:
    """One encoder layer."""
    attention = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(hidden, hidden)
    hidden = keras.layers.LayerNormalization()(hidden + attention)
    wide = keras.layers.Dense(4 * WIDTH, activation="gelu")(hidden)
    return keras.layers.LayerNormalization()(hidden + keras.layers.Dense(WIDTH)(wide))


tokens = keras.layers.Input((LENGTH,), dtype="int32")
hidden = keras.layers.Embedding(VOCABULARY, WIDTH)(tokens)
for _ in range(LAYERS):
    hidden = block(hidden)
scores = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(hidden))
model = keras.Model(tokens, scores)

batch = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, LENGTH))
for _ in range(CALLS):
    model.predict(batch, batch_size=BATCH, verbose=0)
