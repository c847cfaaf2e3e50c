"""Ticks from datasets iterated in Python, and from calls of functions and keras models."""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any, Callable

from .callers import user_line
from .datasets import batch_stage, leading_dimension, stage_kind, stages
from .steps import DATASET, FUNCTION, StepFinder


class DatasetSteps:
    """Batches drawn by Python loops. A phase is the line that starts the iteration.

    Its clock is stopped between the end of one iteration and the start of the next. Nested loops,
    and alternating training and validation loops, are separate phases: the finder takes the first.
    """

    def __init__(self, finder: StepFinder) -> None:
        self._finder = finder
        self._executing_eagerly: Callable[[], bool] = bool

    def install(self, tensorflow: Any) -> None:
        """Patch ``__iter__`` and the iterator's ``__next__``."""
        from tensorflow.python.data.ops import iterator_ops

        dataset_class = tensorflow.data.Dataset
        iterator_class = iterator_ops.OwnedIterator
        dataset_class.cache = self._watch_cache(dataset_class.cache)
        dataset_class.__iter__ = self._watch_iter(dataset_class.__iter__)
        ends = (StopIteration, tensorflow.errors.OutOfRangeError)
        iterator_class.__next__ = self._watch_next(iterator_class.__next__, ends)
        iterator_class.get_next = self._watch_next(iterator_class.get_next, ends)
        self._executing_eagerly = tensorflow.executing_eagerly

    def _watch_cache(self, build: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(build)
        def watched(dataset: Any, *args: Any, **kwargs: Any) -> Any:
            self._finder.cache_met(user_line())
            return build(dataset, *args, **kwargs)

        return watched

    def _watch_iter(self, start: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(start)
        def watched(dataset: Any) -> Any:
            if any(stage_kind(stage) == "Cache" for stage in stages(dataset)):
                self._finder.cache_iterated()
            iterator = start(dataset)
            if self._finder.listens_to(DATASET) and self._executing_eagerly():
                phase = "dataset@" + user_line().rsplit("/", 1)[-1]
                iterator._autotune_phase = phase
                iterator._autotune_batched = batch_stage(dataset) is not None
                self._finder.resume(DATASET, phase)
            return iterator

        return watched

    def _watch_next(
        self, draw: Callable[..., Any], ends: tuple[type[BaseException], ...]
    ) -> Callable[..., Any]:
        @functools.wraps(draw)
        def watched(iterator: Any, *args: Any) -> Any:
            phase = getattr(iterator, "_autotune_phase", None)
            if phase is None:
                return draw(iterator, *args)
            try:
                element = draw(iterator, *args)
            except ends:
                self._finder.pause(DATASET, phase)
                raise
            samples = leading_dimension(element) if iterator._autotune_batched else None
            self._finder.tick(DATASET, phase, 1, samples)
            return element

        return watched


class CallSteps:
    """The outermost eager calls of a tf.function, a loaded signature or a keras model."""

    def __init__(self, finder: StepFinder) -> None:
        self._finder = finder
        self._local = threading.local()

    def install(self, tensorflow: Any) -> None:
        """Patch tf.function's objects and concrete functions."""
        self._watch(type(tensorflow.function(lambda: None)), _function_name, None)
        self._watch(_concrete_function_class(), _function_name, None)

    def install_model(self, keras: Any) -> None:
        """Patch keras.Model."""
        self._watch(
            keras.Model,
            lambda model: "model " + str(getattr(model, "name", "")),
            lambda args: leading_dimension(args[0]) if args else None,
        )

    def _watch(
        self,
        owner: Any,
        name_of: Callable[[Any], str],
        samples_of: Callable[[tuple[Any, ...]], int | None] | None,
    ) -> None:
        call, local, finder = owner.__call__, self._local, self._finder

        @functools.wraps(call)
        def watched(callee: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(local, "inside", False) or not finder.listens_to(FUNCTION):
                return call(callee, *args, **kwargs)
            local.inside = True
            try:
                result = call(callee, *args, **kwargs)
            finally:
                local.inside = False
            if _is_eager(result):
                samples = None if samples_of is None else samples_of(args)
                finder.tick(FUNCTION, name_of(callee), 1, samples)
                finder.observe(FUNCTION, result)
            return result

        owner.__call__ = watched


def _concrete_function_class() -> Any:
    eager = "tensorflow.python.eager."
    for module in (
        "polymorphic_function.concrete_function",  # 2.13 and later
        "polymorphic_function.monomorphic_function",  # 2.11, 2.12
        "function",  # 2.10
    ):
        try:
            return importlib.import_module(eager + module).ConcreteFunction
        except (ImportError, AttributeError):
            continue
    raise ImportError("no known module of this TensorFlow has a ConcreteFunction")


def _function_name(function: Any) -> str:
    python_function = getattr(function, "_python_function", None)
    return str(getattr(python_function, "__name__", None) or getattr(function, "name", "function"))


def _is_eager(result: Any) -> bool:
    """Tell whether a call ran, as opposed to building a graph or a keras model."""
    import tensorflow

    if not tensorflow.executing_eagerly():
        return False
    while isinstance(result, (tuple, list, dict)) and len(result):
        result = next(iter(result.values())) if isinstance(result, dict) else result[0]
    return "KerasTensor" not in type(result).__name__
