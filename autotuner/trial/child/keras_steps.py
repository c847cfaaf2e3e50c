"""Ticks from keras loops: ``fit``, ``evaluate`` and ``predict`` of keras 2 and 3.

The functions that run one execution (``train_function`` and its like) are wrapped rather than a
callback added: a callback with per-batch hooks switches keras 3's asynchronous callbacks off, and
would change what is measured.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from .datasets import batch_size_of
from .steps import KERAS, StepFinder

# method that loops, method that makes the function of one execution, attribute that holds it
_LOOPS = (
    ("fit", "make_train_function", "train_function"),
    ("evaluate", "make_test_function", "test_function"),
    ("predict", "make_predict_function", "predict_function"),
)

_KERAS_BATCH_SIZE = 32


def install(keras: Any, finder: StepFinder) -> None:
    """Patch ``keras.Model``."""
    loops = _Loops(finder)
    for loop, maker, attribute in _LOOPS:
        setattr(keras.Model, loop, loops.watch(getattr(keras.Model, loop), loop))
        made = getattr(keras.Model, maker)
        setattr(keras.Model, maker, loops.count(made, loop, attribute))


class _Loops:
    """The keras loops that are running, innermost last: ``fit`` calls ``evaluate``."""

    def __init__(self, finder: StepFinder) -> None:
        self._finder = finder
        self._running: list[tuple[str, int | None]] = []

    def watch(self, method: Callable[..., Any], loop: str) -> Callable[..., Any]:
        """Wrap a method so that its meter's clock runs just while it does."""
        finder, running = self._finder, self._running

        @functools.wraps(method)
        def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
            if not finder.listens_to(KERAS):
                return method(model, *args, **kwargs)
            if running:
                finder.pause(KERAS, running[-1][0])
            running.append((loop, _samples_per_step(loop, args, kwargs)))
            finder.mute()
            finder.resume(KERAS, loop)
            try:
                return method(model, *args, **kwargs)
            finally:
                finder.pause(KERAS, loop)
                finder.unmute()
                running.pop()
                if running:
                    finder.resume(KERAS, running[-1][0])

        return watched

    def count(self, maker: Callable[..., Any], loop: str, attribute: str) -> Callable[..., Any]:
        """Wrap the maker of an execution function so that the function ticks."""

        @functools.wraps(maker)
        def made(model: Any, *args: Any, **kwargs: Any) -> Any:
            result = maker(model, *args, **kwargs)
            function = getattr(model, attribute, None) or result
            if function is None or getattr(function, "_autotune_counts", False):
                return result
            ticking = self._ticking(model, function, loop)
            setattr(model, attribute, ticking)
            return ticking if result is function else result

        return made

    def _ticking(self, model: Any, function: Callable[..., Any], loop: str) -> Callable[..., Any]:
        finder, running = self._finder, self._running

        def execute(*args: Any, **kwargs: Any) -> Any:
            outputs = function(*args, **kwargs)
            if [name for name, _ in running] == [loop]:  # a validation inside fit is no phase
                steps = _steps_per_execution(model)
                samples = running[-1][1]
                finder.tick(KERAS, loop, steps, None if samples is None else steps * samples)
            return outputs

        execute._autotune_counts = True  # type: ignore[attr-defined]
        return execute


def _steps_per_execution(model: Any) -> int:
    value = getattr(model, "steps_per_execution", None)  # keras 3
    if value is None:
        value = getattr(model, "_steps_per_execution", None)  # keras 2, a variable
    try:
        return 1 if value is None else max(1, int(value))
    except (TypeError, ValueError):
        return 1


def _samples_per_step(loop: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Return the batch size of a call of fit, evaluate or predict where it is known."""
    data: Any = args[0] if args else kwargs.get("x")
    if hasattr(data, "element_spec"):
        return batch_size_of(data)
    while isinstance(data, (list, tuple, dict)) and len(data):
        data = next(iter(data.values())) if isinstance(data, dict) else data[0]
    if not (hasattr(data, "dtype") or hasattr(data, "dtypes")):
        return None  # a generator or a Sequence
    position = 1 if loop == "predict" else 2  # predict(x, batch_size), fit(x, y, batch_size)
    size = args[position] if len(args) > position else kwargs.get("batch_size")
    return min(size if isinstance(size, int) else _KERAS_BATCH_SIZE, len(data))
