"""Train a tiny network on JPEG files that are decoded and augmented: the input dominates."""

import keras
import numpy as np
import tensorflow as tf

IMAGES, SIZE, CROP, BATCH = 256, 160, 128, 32

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
    .map(decode)
    .map(augment)
    .batch(BATCH)
    .prefetch(1)
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
model.fit(dataset, steps_per_epoch=100, epochs=20, verbose=2)
