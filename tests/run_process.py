"""A real ``autotune run`` in a forked process: tests follow its events, and kill it.

TensorFlow is stubbed, so that a trial takes a second; command, processes and database are real.
"""

import contextlib
import json
import os
import queue
import signal
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.commands import STUBBED_PATH
from tests.forked import ForkedCommand

Event = dict[str, Any]
_PATIENCE_S = 90
_MOST_STDERR_BYTES = 1 << 20


class RunProcess:
    """One process of a command, by default ``run``. ``events``: all that it has written so far."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        mark: str,
        command: str = "run",
        **environment: str,
    ) -> None:
        self.folder = folder
        self.mark = mark
        self.events: list[Event] = []
        self._arrived: queue.Queue[Event | None] = queue.Queue()
        # not in the folder, whose disk may be full
        self._stderr = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
        self.process = ForkedCommand(
            [command, *arguments, "--json"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": STUBBED_PATH,
                "AUTOTUNE_LOCK": str(folder / "lock"),
                "MARK": mark,
                **environment,
            },
            stderr=self._stderr,
        )
        weakref.finalize(self, self._stderr.close)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # the last line of a killed process
                    self._arrived.put(json.loads(line))
        self._arrived.put(None)

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Wait for an event and return it; fail if the process ends before."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            event = self._arrived.get(timeout=max(0.1, deadline - time.monotonic()))
            assert event is not None, f"it ended before: {self.stderr}"
            self.events.append(event)
            if wanted(event):
                return event

    def until_file(self, pattern: str) -> Path:
        """Wait until a file below ``.autotune`` matches, and return it."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            for found in self.folder.glob(f".autotune/{pattern}"):
                return found
            assert self.process.poll() is None, f"it ended before: {self.stderr}"
            time.sleep(0.001)
        raise AssertionError(f"no {pattern}")

    def end(self) -> int:
        """Read the remaining events, wait for the end, and return the exit code.

        A whole run may take long on a busy machine, so the limit is on the time between events.
        """
        while (event := self._arrived.get(timeout=_PATIENCE_S)) is not None:
            self.events.append(event)
        return self.process.wait(timeout=_PATIENCE_S)

    @property
    def stderr(self) -> str:
        """All that it wrote to standard error."""
        # without a seek: the process that writes shares the position
        return os.pread(self._stderr.fileno(), _MOST_STDERR_BYTES, 0).decode()

    def descendants(self) -> list[psutil.Process]:
        """Return the wardens and children that are alive."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self) -> psutil.Process:
        """Return the process that runs the script of the present trial: the youngest."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (scripts := [p for p in self.descendants() if _is_child(p)]):
            assert time.monotonic() < deadline, self.stderr
            time.sleep(0.005)
        return max(scripts, key=lambda p: p.create_time())

    def warden(self) -> psutil.Process:
        """Return the warden of the present trial."""
        parent = self.child().parent()
        assert parent is not None
        return parent


def _is_child(process: psutil.Process) -> bool:
    try:
        return any(part.endswith("child/entry.py") for part in process.cmdline()[:3]) and (
            "warden.py" not in " ".join(process.cmdline()[:3])
        )
    except psutil.Error:
        return False


def role_phase(role: str, phase: str, run: RunProcess) -> Callable[[Event], bool]:
    """Return a predicate: a trial of that role enters a phase."""

    def wanted(event: Event) -> bool:
        if event["event"] != "phase" or event["phase"] != phase:
            return False
        started = [e for e in run.events if e["event"] == "trial_started"]
        ended = sum(e["event"] == "trial_ended" for e in run.events)
        return bool(started) and started[-1]["role"] == role and len(started) > ended

    return wanted


def ended(role: str) -> Callable[[Event], bool]:
    """Return a predicate: a trial of that role has ended."""
    return lambda event: event["event"] == "trial_ended" and event["role"] == role


def trials_in(database: Path) -> dict[int, tuple[str, dict[str, Any]]]:
    """Check a database, and return the state and user attributes of its trials, without Optuna."""
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT trial_id, number, state FROM trials").fetchall()
        found = {}
        for trial_id, number, state in rows:
            attributes = connection.execute(
                "SELECT key, value_json FROM trial_user_attributes WHERE trial_id = ?", (trial_id,)
            )
            found[number] = (state, {key: json.loads(value) for key, value in attributes})
    return found


def signal_all(processes: Iterator[psutil.Process] | list[psutil.Process], number: int) -> None:
    """Send a signal to all processes at once."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


KILL = signal.SIGKILL
