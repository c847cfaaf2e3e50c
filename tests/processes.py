"""Real processes of a test: which live, and waiting for one of them."""

import os
import time
from collections.abc import Callable

import psutil

_PATIENCE_S = 30
_QUIET_LOOKS = 5


def living_with(marker: str) -> list[int]:
    """Return processes that run with this marker in their environment, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("MARK") == marker:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def left_of(marker: str, within_s: float = 10.0) -> list[str]:
    """Return what else runs with this marker after a while, each process described.

    A process has no environment in the moment in which it becomes another program, so that one look
    may miss it: nothing must be seen several times in a row.
    """
    quiet_looks, deadline = 0, time.monotonic() + within_s
    while quiet_looks < _QUIET_LOOKS:
        found = [pid for pid in living_with(marker) if pid != os.getpid()]
        if found and time.monotonic() > deadline:
            return [_described(pid) for pid in found]
        quiet_looks = 0 if found else quiet_looks + 1
        time.sleep(0.02)
    return []


def _described(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return f"{pid}: {process.status()}, of {process.ppid()}, {process.cmdline()}"
    except psutil.Error as error:
        return f"{pid}: {error!r}"


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until a function returns something true."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)
