"""The stages and the batch size of a tf.data pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def stages(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and all its inputs, the last stage first."""
    waiting = [dataset]
    while waiting:
        stage = waiting.pop(0)
        yield stage
        inputs = getattr(stage, "_inputs", None)
        waiting.extend(inputs() if inputs is not None else ())


def stage_kind(stage: Any) -> str:
    """Return the stage's name without TensorFlow's decoration: "Map", "ParallelMap", "Batch"."""
    return type(stage).__name__.lstrip("_").replace("Dataset", "")


def batch_stage(dataset: Any) -> Any | None:
    """Return the last stage that makes batches; None if a later stage unbatches."""
    for stage in stages(dataset):
        kind = stage_kind(stage)
        if "Unbatch" in kind:
            return None
        if "Batch" in kind:
            return stage
    return None


def dataset_pass(dataset: Any) -> tuple[int | None, int | None, int | None]:
    """Return steps, batch size and samples of one pass over a pipeline; None if not known."""
    stage = batch_stage(dataset)
    if stage is None:
        return None, None, None
    try:
        batch = int(stage._batch_size)
    except (AttributeError, TypeError, ValueError):
        return None, None, None
    steps, rows = _cardinality(dataset), _cardinality(stage._input_dataset)
    if steps is None or rows is None or steps != -(-rows // batch):
        rows = None  # repeated, cut, or without a remainder
    return steps, batch, rows


def _cardinality(dataset: Any) -> int | None:
    count = int(dataset.cardinality())
    return count if count >= 0 else None


def leading_dimension(element: Any) -> int | None:
    """Return the first dimension of the first tensor in a nested element, or None."""
    while isinstance(element, (tuple, list, dict)) and len(element):
        element = next(iter(element.values())) if isinstance(element, dict) else element[0]
    shape = getattr(element, "shape", None)
    try:
        return int(shape[0]) if shape is not None and len(shape) else None
    except (TypeError, ValueError):
        return None
