"""Feed the script the same batch again and again, to measure its steps without their input.

Each dataset that Python or keras iterates then yields only its first element. With "single" that
element is cut to one sample, so that the rest of a step does not depend on the batch size.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from .datasets import batch_stage
from .pipeline import is_keras_own

Notify = Callable[[str, str], None]


def replace_elements(tensorflow: Any, feed: str, notice: Notify) -> None:
    """Patch ``Dataset.__iter__``. Call this before all other patches, so that it runs last.

    ``notice("fed_cached" or "fed_single", text)`` is called for each dataset that is replaced.
    """
    dataset_class = tensorflow.data.Dataset
    # the unpatched methods: later patches must not mistake this cache for the script's
    start, cache = dataset_class.__iter__, dataset_class.cache

    @functools.wraps(start)
    def replaced(dataset: Any) -> Any:
        if not tensorflow.executing_eagerly():
            return start(dataset)
        if "_autotune_same" not in dataset.__dict__:
            dataset._autotune_same = _always_the_first(dataset, tensorflow, cache, feed == "single")
            if dataset._autotune_same is not None:
                notice("fed_" + feed, "this dataset yields the same element again and again")
        return start(dataset if dataset._autotune_same is None else dataset._autotune_same)

    dataset_class.__iter__ = replaced


def _always_the_first(
    dataset: Any, tensorflow: Any, cache: Callable[[Any], Any], single: bool
) -> Any | None:
    """Return a dataset of the first element; None if no sample can be cut out of it."""
    first = dataset.take(1)
    if single:
        if batch_stage(dataset) is None and not is_keras_own(dataset):
            return None
        first = first.map(lambda *element: _first_rows(element, tensorflow))
    count = int(dataset.cardinality())
    return cache(first).repeat(count if count > 0 else None)


def _first_rows(element: Any, tensorflow: Any) -> Any:
    cut = tensorflow.nest.map_structure(lambda tensor: tensor[:1], element)
    return cut[0] if len(cut) == 1 else cut
