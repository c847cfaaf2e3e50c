"""The child's ends of the pipes to and from the parent."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any


class EventPipe:
    """Writes events as JSON lines to a file descriptor that only this process uses.

    Processes that the script starts never write: exec does not inherit the descriptor, and a forked
    copy closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        os.set_inheritable(descriptor, False)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close)

    def _close(self) -> None:
        self._lock = threading.Lock()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
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
            while self._descriptor >= 0 and data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BrokenPipeError:  # the parent is gone, and the warden is about to kill us
                    return


class OrderPipe:
    """Reads the parent's only order: end the measurement."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def has_finish(self) -> bool:
        """Return whether the order has arrived since the last call."""
        if self._descriptor is None:
            return False
        try:
            order = os.read(self._descriptor, 1)
        except BlockingIOError:
            return False
        except OSError:
            order = b""
        if not order:  # the parent is gone, and the warden is about to kill us
            self._descriptor = None
        return bool(order)
