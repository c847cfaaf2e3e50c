"""The child's ends of the pipes to and from the parent."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from typing import Any, NamedTuple

# scripts that become daemons close the descriptors up to 255 or 1023
_HIGH = (4096, 1024, 256)


class Pipe(NamedTuple):
    """A pipe's end: its descriptor, and the file that this stands for."""

    descriptor: int
    file: tuple[int, int]

    @property
    def is_ours(self) -> bool:
        """Whether the descriptor still stands for that file: a script may have closed it."""
        return self.file == _file_of(self.descriptor)


def take(descriptor: int) -> Pipe:
    """Return a pipe's end under a high number that is not inherited; the old one is closed."""
    for least in _HIGH:
        try:
            moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)
        except OSError:  # beyond the limit of open files
            continue
        os.close(descriptor)
        return Pipe(moved, _file_of(moved))
    os.set_inheritable(descriptor, False)
    return Pipe(descriptor, _file_of(descriptor))


def _file_of(descriptor: int) -> tuple[int, int]:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return (-1, -1)
    return (found.st_dev, found.st_ino)


class EventPipe:
    """Writes events as JSON lines to a pipe that only this process uses.

    Processes that the script starts never write: exec does not inherit the descriptor, and a forked
    copy closes it. Nothing is written once the script has closed the descriptor, which may be a
    file of its own then.
    """

    def __init__(self, descriptor: int) -> None:
        self._pipe = take(descriptor)
        self._descriptor = self._pipe.descriptor
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close)

    def _close(self) -> None:
        self._lock = threading.Lock()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0 and self._pipe.is_ours:
            os.close(descriptor)

    @property
    def is_open(self) -> bool:
        """Whether this is the trial's process, not one that the script has forked."""
        return self._descriptor >= 0

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event; do nothing in a forked copy."""
        line = json.dumps({"event": event, "t": time.monotonic(), **fields}) + "\n"
        data = line.encode("utf-8", "backslashreplace")
        with self._lock:
            while self._descriptor >= 0 and self._pipe.is_ours and data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BrokenPipeError:  # the parent is gone, and the warden is about to kill us
                    return


class OrderPipe:
    """Reads the parent's only order: end the measurement."""

    def __init__(self, descriptor: int | None) -> None:
        self._pipe = None if descriptor is None else take(descriptor)
        if self._pipe is not None:
            os.set_blocking(self._pipe.descriptor, False)

    def has_finish(self) -> bool:
        """Return whether the order has arrived since the last call."""
        if self._pipe is None or not self._pipe.is_ours:
            return False
        try:
            order = os.read(self._pipe.descriptor, 1)
        except BlockingIOError:
            return False
        except OSError:
            order = b""
        if not order:  # the parent is gone, and the warden is about to kill us
            self._pipe = None
        return bool(order)
