"""Runs a convolution and a matrix product to show what a TensorFlow is built with.

Standard library and TensorFlow only, because this runs in the user's interpreter.
"""

from __future__ import annotations

import tensorflow as tf

from autotuner import step  # a module that the child provides


def main() -> None:
    """Run both ops until the trial is over."""
    images, filters = tf.ones([4, 32, 32, 16]), tf.ones([3, 3, 16, 16])
    matrix = tf.ones([128, 128])
    ops = tf.function(lambda: (tf.nn.conv2d(images, filters, 1, "SAME"), tf.matmul(matrix, matrix)))
    while True:
        ops()
        step()


if __name__ == "__main__":
    main()
