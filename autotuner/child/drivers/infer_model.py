"""Runs a saved model's inference for ever on generated inputs; ``--model model.keras`` tunes this.

Command line: ``infer_model.py MODEL --batch-size N [--shape NAME=D1,D2,...]``. MODEL is a
``.keras`` or ``.h5`` file, or a folder with a ``saved_model.pb``. Inputs have the shapes and types
of the model's signature. An open first dimension is the batch size, other open dimensions are 1,
unless ``--shape`` gives them. ``AUTOTUNE_BATCH_SIZE``, a knob, overrides ``--batch-size``.
Standard library and TensorFlow only, because this runs in the user's interpreter.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Callable

Call = Callable[[dict[str, Any]], Any]


def main() -> None:
    """Load the model, generate inputs, and call the model until the trial is over."""
    arguments = _arguments()
    import tensorflow as tf

    tuned = os.environ.get("AUTOTUNE_BATCH_SIZE", "")
    batch_size = int(tuned) if tuned.isdecimal() else arguments.batch_size
    call, specs = _load(tf, arguments.model)
    shapes = dict(_shape(text) for text in arguments.shape)
    unknown = sorted(set(shapes) - set(specs))
    if unknown:
        sys.exit("--shape: no input {}; there are: {}".format(unknown[0], ", ".join(specs)))
    inputs = {
        name: _generated(tf, name, spec, shapes.get(name), batch_size)
        for name, spec in specs.items()
    }
    samples = min((int(x.shape[0]) for x in inputs.values() if x.shape.rank), default=1)
    from autotuner import step  # a module that the child provides

    while True:
        outputs = call(inputs)
        tf.nest.map_structure(lambda x: x.numpy() if hasattr(x, "numpy") else x, outputs)
        step(samples=samples)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--shape", action="append", default=[])
    return parser.parse_args()


def _shape(text: str) -> tuple[str, list[int]]:
    name, _, dimensions = text.partition("=")
    return name, [int(dimension) for dimension in dimensions.split(",")]


def _load(tf: Any, path: str) -> tuple[Call, dict[str, Any]]:
    """Return a function of a dictionary of inputs, and the inputs' specifications by name."""
    return _load_saved_model(tf, path) if os.path.isdir(path) else _load_keras(tf, path)


def _load_saved_model(tf: Any, path: str) -> tuple[Call, dict[str, Any]]:
    loaded = tf.saved_model.load(path)
    signatures = loaded.signatures
    if not signatures:
        sys.exit(path + ": the SavedModel has no signature; save it with one")
    name = "serving_default" if "serving_default" in signatures else sorted(signatures)[0]
    signature = signatures[name]
    specs = signature.structured_input_signature[1]
    keep = loaded  # its variables must live as long as the function
    return lambda inputs, keep=keep: signature(**inputs), dict(specs)


def _load_keras(tf: Any, path: str) -> tuple[Call, dict[str, Any]]:
    model = tf.keras.models.load_model(path, compile=False)
    specs = {}
    for number, tensor in enumerate(model.inputs):
        name = getattr(tensor, "name", None) or f"input_{number}"
        specs[name.split(":")[0]] = tf.TensorSpec(tensor.shape, tensor.dtype)
    infer = tf.function(lambda values: model(values, training=False))

    def call(inputs: dict[str, Any]) -> Any:
        values = list(inputs.values())
        return infer(values[0] if len(values) == 1 else values)

    return call, specs


def _generated(tf: Any, name: str, spec: Any, shape: Sequence[int] | None, batch_size: int) -> Any:
    """Return a tensor for a specification: small random numbers, which don't overflow."""
    dtype = tf.as_dtype(spec.dtype)
    if shape is None:
        if spec.shape.rank is None:
            sys.exit(f"the input {name} has no known rank: give --shape {name}=...")
        sizes = spec.shape.as_list()
        shape = [
            size or (batch_size if position == 0 else 1) for position, size in enumerate(sizes)
        ]
    if dtype == tf.string:
        return tf.fill(shape, "text")
    if dtype == tf.bool:
        return tf.zeros(shape, tf.bool)
    if dtype.is_integer:
        return tf.cast(tf.random.uniform(shape, 0, 2, tf.int32, seed=0), dtype)
    return tf.cast(tf.random.uniform(shape, seed=0), dtype)


if __name__ == "__main__":
    main()
