"""Knobs that the script sets itself: the trial's value wins, and a notice gives the line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Callable

from .callers import user_line
from .event_pipe import EventPipe

THREADS = ("intra_op", "inter_op")


def hold_environment(
    script: str, environment: dict[str, str | None], pipe: EventPipe
) -> Callable[[], None]:
    """Return a function that restores the trial's variables and reports those that had changed.

    A variable whose value is None is removed, as all knobs are in a trial of the defaults.
    """

    def hold() -> None:
        for name, value in environment.items():
            found = os.environ.get(name)
            if found == value:
                continue
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
            if found is not None:
                _report(
                    pipe,
                    where=_line_that_names(script, name),
                    knob=name,
                    value=found,
                    text=f"the script sets {name}={found} itself",
                )

    return hold


def _report(pipe: EventPipe, *, where: str, knob: str, value: Any, text: str) -> None:
    pipe.emit("notice", kind="override", where=where, knob=knob, value=value, text=text)


def _line_that_names(script: str, name: str) -> str:
    try:
        with open(script, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if re.search(rf"\b{re.escape(name)}\b", line):
                    return f"{script}:{number}"
    except OSError:
        pass
    return script


def hold_until_first_op(hold: Callable[[], None]) -> None:
    """Call ``hold`` again before TensorFlow's context is made, which reads the thread counts."""
    from tensorflow.python.eager import context

    context_class = context.Context
    make = context_class.ensure_initialized

    def ensure_initialized(self: Any) -> None:
        context_class.ensure_initialized = make
        hold()
        make(self)

    context_class.ensure_initialized = ensure_initialized


def hold_threads(pipe: EventPipe, knobs: Sequence[str] = THREADS) -> None:
    """Report the script's calls that set these thread counts, without setting them.

    Both API versions of ``tf.config.threading.set_*`` set properties of the eager context. A
    TensorFlow 1 session takes the counts from its ``ConfigProto``.
    """
    from tensorflow.python.client import session
    from tensorflow.python.eager import context

    for knob in knobs:
        name = f"{knob}_parallelism_threads"
        setattr(context.Context, name, _reporting(getattr(context.Context, name), knob, pipe))
    session.BaseSession.__init__ = _without_threads(session.BaseSession.__init__, pipe, knobs)


def _reporting(found: Any, knob: str, pipe: EventPipe) -> property:
    def report(self: Any, num_threads: int) -> None:
        text = f"the script calls tf.config.threading.set_{knob}_parallelism_threads({num_threads})"
        _report(pipe, where=user_line(), knob=knob, value=num_threads, text=text + " itself")

    return property(found.fget, report)


def _without_threads(
    initialise: Callable[..., None], pipe: EventPipe, knobs: Sequence[str]
) -> Callable[..., None]:
    def init(
        self: Any,
        target: Any = "",
        graph: Any = None,
        config: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        for knob in knobs:
            field = f"{knob}_parallelism_threads"
            value = getattr(config, field, 0)
            if value:
                text = f"the script's session is configured with {field}={value}"
                _report(pipe, where=user_line(), knob=knob, value=value, text=text)
                config = type(config).FromString(config.SerializeToString())
                config.ClearField(field)
        initialise(self, target, graph, config, *args, **kwargs)

    return init
