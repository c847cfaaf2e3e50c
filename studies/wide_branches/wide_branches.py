"""Run a model of many independent branches: whether ops run side by side matters."""

import numpy as np
import tensorflow as tf

BRANCHES, WIDTH, BATCH, STEPS = 16, 192, 64, 4_000

generator = np.random.default_rng(0)
weights = [
    [
        tf.constant(generator.standard_normal((WIDTH, WIDTH), dtype="float32") / WIDTH**0.5)
        for _ in range(4)
    ]
    for _ in range(BRANCHES)
]


@tf.function
def infer(batch: tf.Tensor) -> tf.Tensor:
    """Send one batch through every branch and add up."""
    outputs = []
    for layers in weights:
        hidden = batch
        for layer in layers:
            hidden = tf.nn.relu(tf.matmul(hidden, layer))
        outputs.append(hidden)
    return tf.add_n(outputs)


batch = tf.constant(generator.standard_normal((BATCH, WIDTH), dtype="float32"))
total = 0.0
for _ in range(STEPS):
    total += float(infer(batch)[0, 0])
print("checksum", total)
