"""Errors that the user can fix.

::

    Exception
     └── UserError          what is wrong, where, and what to do; the command line exits with 1
          └── ScriptFailedError  the script fails with TensorFlow's defaults; has the log's path

A failed trial is not an exception but an :class:`autotuner.trial.outcome.Outcome`.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from autotuner.plain import plain


class UserError(Exception):
    """An error that the user can fix: a message and, if possible, a hint what to do.

    Both are one line each, whatever the paths and names in them hold.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = plain(message)
        self.hint = None if hint is None else plain(hint)
        super().__init__(self.message)


class ScriptFailedError(UserError):
    """The script fails with TensorFlow's defaults, so there is nothing to tune.

    ``lines``: the last ones of its output, a line each in the message.
    """

    def __init__(
        self, message: str, *, log: Path, lines: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.message += "".join(f"\n    {plain(line)}" for line in lines)
        self.log = log


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint with the nearest known word, or with all words if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else f"known: {', '.join(names)}"
