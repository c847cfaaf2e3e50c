"""The workload image_input, with what one writes into it for tune.py: settings, and a stopwatch."""

import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

IMAGES, SIZE, CROP, BATCH = 256, 160, 128, 32
WARMUP_STEPS, MEASURE_S = 10, 5.0
MAP_CALLS = int(os.environ["MAP_CALLS"]) or None  # -1: AUTOTUNE; 0: not in parallel
PREFETCH = int(os.environ["PREFETCH"])
tf.config.threading.set_intra_op_parallelism_threads(int(os.environ["TF_NUM_INTRAOP_THREADS"]))
tf.config.threading.set_inter_op_parallelism_threads(int(os.environ["TF_NUM_INTEROP_THREADS"]))

generator = np.random.default_rng(0)
coarse = generator.integers(0, 256, (IMAGES, SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
files = [
    tf.io.encode_jpeg(np.kron(image, np.ones((8, 8, 1), np.uint8))).numpy() for image in coarse
]
labels = generator.integers(0, 10, IMAGES)


def decode(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode one file."""
    return tf.io.decode_jpeg(file, channels=3), label


def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Crop, flip and recolour one image at random."""
    image = tf.image.random_crop(image, (CROP, CROP, 3))
    image = tf.image.random_flip_left_right(image)
    image = tf.image.convert_image_dtype(image, tf.float32)
    image = tf.image.random_brightness(image, 0.2)
    image = tf.image.random_saturation(image, 0.8, 1.2)
    return tf.image.resize(image, (64, 64)), label


dataset = (
    tf.data.Dataset.from_tensor_slices((files, labels))
    .repeat()
    .shuffle(IMAGES)
    .map(decode, num_parallel_calls=MAP_CALLS)
    .map(augment, num_parallel_calls=MAP_CALLS)
    .batch(BATCH)
    .prefetch(PREFETCH)
)

model = keras.Sequential(
    [
        keras.layers.Input((64, 64, 3)),
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
)
model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))


class Stopwatch(keras.callbacks.Callback):
    """Prints samples per second and stops the training."""

    steps, began = 0, 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count a step."""
        self.steps += 1
        now = time.perf_counter()
        if self.steps == WARMUP_STEPS:
            self.began = now
        elif self.steps > WARMUP_STEPS and now - self.began >= MEASURE_S:
            print(BATCH * (self.steps - WARMUP_STEPS) / (now - self.began))
            self.model.stop_training = True


model.fit(dataset, steps_per_epoch=10_000, epochs=1, verbose=0, callbacks=[Stopwatch()])
