import multiprocessing
import os

import numpy as np


def produce(seed):
    return np.random.default_rng(seed).random((16, 8), dtype="float32")


def batches(pool):
    seed = 0
    while True:
        yield from pool.map(produce, range(seed, seed + 8))
        seed += 8


if __name__ == "__main__":
    with multiprocessing.get_context(os.environ.get("START", "spawn")).Pool(2) as pool:
        import tensorflow as tf

        spec = tf.TensorSpec((16, 8), tf.float32)
        data = tf.data.Dataset.from_generator(lambda: batches(pool), output_signature=spec)
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(data.map(lambda x: (x, x[:, :1])), steps_per_epoch=10_000, verbose=0)
