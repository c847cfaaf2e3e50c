"""Settings that the script makes itself: the trial's value wins, and the user is told where."""

from __future__ import annotations

import os
import re
from typing import Any, Callable

from .callers import user_line
from .events import EventPipe


def hold_environment(
    script: str, environment: dict[str, str], pipe: EventPipe
) -> Callable[[], None]:
    """Return a function that sets the trial's variables again and reports any that had changed."""

    def hold() -> None:
        for name, value in environment.items():
            found = os.environ.get(name)
            if found != value:
                os.environ[name] = value
                pipe.emit(
                    "notice",
                    kind="override",
                    where=_line_that_names(script, name),
                    knob=name,
                    value=found,
                    text=f"the script sets {name}={found} itself",
                )

    return hold


def _line_that_names(script: str, name: str) -> str:
    try:
        with open(script, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if re.search(rf"\b{re.escape(name)}\b", line):
                    return f"{script}:{number}"
    except OSError:
        pass
    return script


def hold_threads(tensorflow: Any, pipe: EventPipe) -> None:
    """Make ``tf.config.threading.set_*`` report instead of set."""
    threading_module = tensorflow.config.threading
    for knob in ("intra_op", "inter_op"):
        function_name = f"set_{knob}_parallelism_threads"

        def report(num_threads: int, knob: str = knob, name: str = function_name) -> None:
            pipe.emit(
                "notice",
                kind="override",
                where=user_line(),
                knob=knob,
                value=num_threads,
                text=f"the script calls tf.config.threading.{name}({num_threads}) itself",
            )

        setattr(threading_module, function_name, report)
