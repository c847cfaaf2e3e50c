"""A real ``autotune run`` in a process of its own, followed by its events, to be killed at will.

TensorFlow is stubbed, so that a trial takes a second; command, processes and database are real.
"""

import contextlib
import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.commands import STUB

Event = dict[str, Any]
_PATIENCE_S = 90
_MOST_SAID = 1 << 20


class Sitting:
    """One run of a command, ``run`` if not said; ``events`` holds what it has said so far."""

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
        self._said = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autotuner", command, *arguments, "--json"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(STUB),
                "AUTOTUNE_LOCK": str(folder / "lock"),
                "MARK": mark,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            # a test run in the background of a shell ignores SIGINT, and so would its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )
        weakref.finalize(self, self._said.close)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # the last line of a killed process
                    self._arrived.put(json.loads(line))
        self._arrived.put(None)

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Wait for an event and return it; it fails if the run ends before."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            event = self._arrived.get(timeout=max(0.1, deadline - time.monotonic()))
            assert event is not None, f"it ended before: {self.said}"
            self.events.append(event)
            if wanted(event):
                return event

    def until_file(self, pattern: str) -> Path:
        """Wait until there is a file of that name below ``.autotune``."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            for found in self.folder.glob(f".autotune/{pattern}"):
                return found
            assert self.process.poll() is None, f"it ended before: {self.said}"
            time.sleep(0.001)
        raise AssertionError(f"no {pattern}")

    def end(self) -> int:
        """Take in what is left of the events, wait for the end, and return the exit code.

        A whole run may take long on a busy machine: it hangs if it says nothing for so long.
        """
        while (event := self._arrived.get(timeout=_PATIENCE_S)) is not None:
            self.events.append(event)
        return self.process.wait(timeout=_PATIENCE_S)

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        # read where it is: a position is shared with the process that writes
        return os.pread(self._said.fileno(), _MOST_SAID, 0).decode()

    def family(self) -> list[psutil.Process]:
        """Return the wardens and children that live now."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self) -> psutil.Process:
        """Return the process that runs the script of the present trial: the youngest."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (scripts := [p for p in self.family() if _is_child(p)]):
            assert time.monotonic() < deadline, self.said
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


def role_phase(role: str, phase: str, sitting: Sitting) -> Callable[[Event], bool]:
    """Return a test for an event: a trial of that role enters a phase."""

    def wanted(event: Event) -> bool:
        if event["event"] != "phase" or event["phase"] != phase:
            return False
        started = [e for e in sitting.events if e["event"] == "trial_started"]
        ended = sum(e["event"] == "trial_ended" for e in sitting.events)
        return bool(started) and started[-1]["role"] == role and len(started) > ended

    return wanted


def ended(role: str) -> Callable[[Event], bool]:
    """Return a test for an event: a trial of that role has ended."""
    return lambda event: event["event"] == "trial_ended" and event["role"] == role


def trials_in(database: Path) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return state and user attributes of all trials, read without Optuna, after a check."""
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
    """Send a signal to all of them, as close together as can be."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


KILL = signal.SIGKILL
