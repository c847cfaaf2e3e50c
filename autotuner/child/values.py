"""Summaries of what a script's first executions compute, for the numerical guard."""

from __future__ import annotations

import math
import random
import sys
from typing import Any

_MOST_NUMBERS = 32


class Seeds:
    """Fixes the seeds of Python, numpy, TensorFlow and keras, each after its import."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        random.seed(seed)

    def numpy(self, module: Any) -> None:
        """Seed numpy's global generator."""
        module.random.seed(self._seed % 2**32)

    def tensorflow(self, module: Any) -> None:
        """Seed TensorFlow's global generator."""
        module.random.set_seed(self._seed)

    def keras(self, module: Any) -> None:
        """Seed all generators by ``keras.utils.set_random_seed``."""
        if hasattr(module, "utils") and hasattr(module.utils, "set_random_seed"):
            module.utils.set_random_seed(self._seed)


def numbers_of(result: Any) -> list[float]:
    """Return numbers that summarize a nested result: of arrays the mean and the norm."""
    numpy = sys.modules["numpy"]
    found: list[float] = []
    waiting = [result]
    while waiting and len(found) < _MOST_NUMBERS:
        leaf = waiting.pop(0)
        if isinstance(leaf, dict):
            waiting.extend(leaf[key] for key in sorted(leaf, key=str))
        elif isinstance(leaf, (list, tuple)):
            waiting.extend(leaf)
        elif leaf is not None:
            found.extend(_numbers_of_leaf(leaf, numpy))
    return found


def _numbers_of_leaf(leaf: Any, numpy: Any) -> list[float]:
    try:
        array = numpy.asarray(leaf.numpy() if hasattr(leaf, "numpy") else leaf, dtype="float64")
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return []
    if array.size == 1:
        return [float(array.reshape(-1)[0])]
    if array.size == 0:
        return []
    return [float(array.mean()), math.sqrt(float((array * array).sum()))]
