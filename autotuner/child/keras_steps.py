"""Ticks from keras loops: ``fit``, ``evaluate`` and ``predict`` of keras 2 and 3.

The functions that run one execution (``train_function`` and the like) are wrapped. A callback with
hooks for each batch would switch keras 3's asynchronous callbacks off and change the measurement.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from .datasets import dataset_pass
from .steps import KERAS, StepFinder

# method with the loop, method that builds the execution function, attribute that holds it
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
    """The running keras loops, innermost last: ``fit`` calls ``evaluate``."""

    def __init__(self, finder: StepFinder) -> None:
        self._finder = finder
        self._running: list[tuple[str, Pass]] = []

    def watch(self, method: Callable[..., Any], loop: str) -> Callable[..., Any]:
        """Wrap a method so that its meter's clock runs only while the method runs."""
        finder, running = self._finder, self._running

        @functools.wraps(method)
        def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
            if not finder.listens_to(KERAS):
                return method(model, *args, **kwargs)
            if running:
                finder.pause(KERAS, running[-1][0])
            running.append((loop, _pass_of(loop, args, kwargs)))
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
        """Wrap the method that builds an execution function so that the function ticks."""

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
            if [name for name, _ in running] == [loop]:  # validation inside fit is not a phase
                finder.tick(KERAS, loop, *running[-1][1].advance(_steps_per_execution(model)))
                finder.observe(KERAS, outputs)
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


class Pass:
    """The size of each execution in passes over the data.

    The last execution of a pass may hold fewer steps, and its last step fewer samples. ``steps``
    and ``samples`` are the numbers of one pass; None if not known.
    """

    def __init__(self, steps: int | None, batch: int | None, samples: int | None) -> None:
        self._steps = steps
        self._batch = batch
        self._samples = samples
        self._done = 0

    def advance(self, most: int) -> tuple[int, int | None]:
        """Return steps and samples of the next execution, which holds at most ``most`` steps."""
        steps = most if self._steps is None else min(most, self._steps - self._done)
        first, self._done = self._done, self._done + steps
        at_end = self._done == self._steps
        if at_end:
            self._done = 0
        if self._batch is None:
            return steps, None
        if at_end and self._samples is not None:
            return steps, self._samples - first * self._batch
        return steps, steps * self._batch


# position of batch_size and name of the number of steps among the arguments of each loop
_BATCH_SIZE = {"fit": 2, "evaluate": 2, "predict": 1}
_STEPS_NAME = {"fit": "steps_per_epoch", "evaluate": "steps", "predict": "steps"}


def _pass_of(loop: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
    """Return the passes of a call of fit, evaluate or predict, as far as they are known."""
    data: Any = args[0] if args else kwargs.get("x")
    requested = kwargs.get(_STEPS_NAME[loop])
    if hasattr(data, "element_spec"):
        steps, batch, samples = dataset_pass(data)
    else:
        at = _BATCH_SIZE[loop]
        size = args[at] if len(args) > at else kwargs.get("batch_size")
        batch = size if isinstance(size, int) else _KERAS_BATCH_SIZE
        samples = _rows(data, kwargs.get("validation_split", 0.0))
        steps = None if samples is None else -(-samples // batch)
        batch = None if samples is None else batch
    if isinstance(requested, int):
        return Pass(requested, batch, None)
    return Pass(steps, batch, samples)


def _rows(data: Any, validation_split: float) -> int | None:
    """Return the number of rows in training arrays; None for generators."""
    while isinstance(data, (list, tuple, dict)) and len(data):
        data = next(iter(data.values())) if isinstance(data, dict) else data[0]
    if not (hasattr(data, "dtype") or hasattr(data, "dtypes")) or not hasattr(data, "__len__"):
        return None
    return int(len(data) * (1.0 - (validation_split or 0.0)))
