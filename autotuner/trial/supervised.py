"""The parent's side of a child process under its warden: start, messages, stop."""

import contextlib
import ctypes
import dataclasses
import json
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import psutil

from autotuner.files import create
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.messages import broken, parse_child, parse_warden

_WARDEN = Path(__file__).resolve().parents[1] / "child" / "warden.py"
_READ_BYTES = 65_536
_AT_ONCE = 16  # reads of one pipe before the other, the deadline and the next message have a turn
_LONGEST_LINE = 4 * 2**20
# what a child may send; thousands of short steps a second take 150 kB/s
_BURST_BYTES, _BYTES_PER_S = 16 * 2**20, 512 * 2**10
_ORPHANS_S = 5.0
_END_S = 10.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WARDENS: set[int] = set()  # of this process, as long as they have not been collected
# loaded at import: no library may be loaded between fork and exec in a process with threads
_LIBC = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    """Call prctl(2)."""
    if sys.platform.startswith("linux"):
        _LIBC.prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper() -> None:
    """Make orphans among this process's descendants its own children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Lines:
    """Whole lines from a pipe, with bounds: its writer may be a script that floods it.

    ``at_end``: nothing more is read. ``problem``: the bound that the writer has broken, or None;
    the pipe is not read any more then, so the writer waits until it is killed.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.at_end = False
        self.problem: str | None = None
        self._rest = b""
        self._began = time.monotonic()
        self._bytes = 0

    def read(self) -> list[bytes]:
        """Return the complete lines that have arrived, not all if there are very many."""
        found = []
        for _ in range(_AT_ONCE):
            try:
                chunk = os.read(self.descriptor, _READ_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                self.at_end = True
                break
            found.append(chunk)
        *lines, self._rest = (self._rest + b"".join(found)).split(b"\n")
        self._bytes += sum(map(len, found))
        allowed = _BURST_BYTES + _BYTES_PER_S * (time.monotonic() - self._began)
        if len(self._rest) > _LONGEST_LINE:
            self.problem = f"a message of more than {_LONGEST_LINE // 2**20} MiB"
        elif self._bytes > allowed:
            self.problem = f"more than {allowed / 2**20:,.0f} MiB of messages"
        if self.problem is not None:
            self.at_end, self._rest = True, b""
        return lines


class Wires:
    """The pipes between the parent, a warden and its child.

    ``events``: from the child. ``orders``: to the child. ``status``: from the warden.
    ``lifeline``: orders to the warden; its end of file tells the warden that the parent is gone.
    """

    def __init__(self) -> None:
        self.events_read, self.events_write = os.pipe()
        self.orders_read, self.orders_write = os.pipe()
        self.status_read, self.status_write = os.pipe()
        self.lifeline_read, self.lifeline_write = os.pipe()

    @property
    def childs(self) -> tuple[int, int]:
        """The child's ends: events and orders."""
        return self.events_write, self.orders_read

    @property
    def wardens(self) -> tuple[int, int]:
        """The warden's ends: status and lifeline."""
        return self.status_write, self.lifeline_read

    @property
    def theirs(self) -> tuple[int, ...]:
        """The child's ends, then the warden's."""
        return (*self.childs, *self.wardens)

    def close_theirs(self) -> None:
        """Close the other processes' ends in this process."""
        for descriptor in self.theirs:
            os.close(descriptor)

    def close(self) -> None:
        """Close all ends, where no other process was started."""
        self.close_theirs()
        ours = (self.events_read, self.orders_write, self.status_read, self.lifeline_write)
        for descriptor in ours:
            os.close(descriptor)


class WardenHandle(Protocol):
    """How the parent ends a warden."""

    def kill(self) -> None:
        """Kill a warden that does not end."""

    def bury(self, *, clean: bool) -> None:
        """Wait for the warden's end; unless it was ``clean``, kill what the warden left behind."""


class WardedProcess:
    """A child and everything it starts; leaving the context kills all of it.

    ``receive`` returns the messages of the child (``events``) and of the warden (``status``).
    """

    def __init__(self, wires: Wires, warden: WardenHandle) -> None:
        wires.close_theirs()  # the warden and the child have inherited them
        self._warden = warden
        self._orders = wires.orders_write
        self._lifeline = wires.lifeline_write
        self._events = Lines(wires.events_read)
        self._status = Lines(wires.status_read)
        self._exited = False
        self._waiting: deque[dict[str, Any]] = deque()
        self._selector = selectors.DefaultSelector()
        self._selector.register(wires.events_read, selectors.EVENT_READ, self._events)
        self._selector.register(wires.status_read, selectors.EVENT_READ, self._status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def receive(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message, or None if none arrives by the deadline (monotonic seconds).

        The last message is ``exited``, or ``warden_gone`` if the warden died before it could report
        the end; ``closed``: the child has closed its pipe. What is no message becomes one that is
        :data:`~autotuner.trial.messages.BROKEN`.
        """
        looked = False
        while not self._waiting:
            if self._status.at_end:
                return {"event": "warden_gone"}
            if looked and time.monotonic() >= deadline:
                return None  # although something arrives all the time
            looked = True
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            # the child's events before the warden's report that the child is gone
            for lines in sorted((key.data for key, _ in ready), key=lambda x: x is self._status):
                self._waiting.extend(self._read(lines))
        return self._waiting.popleft()

    def _read(self, lines: Lines) -> Iterator[dict[str, Any]]:
        for message in self._messages(lines):
            if lines is self._status and message["event"] == "exited":
                self._exited = True
                yield from self._read_rest()
            yield message
        if lines.at_end:
            with contextlib.suppress(KeyError):
                self._selector.unregister(lines.descriptor)
                if lines is self._events and lines.problem is None:
                    yield {"event": "closed"}

    def _messages(self, lines: Lines) -> Iterator[dict[str, Any]]:
        parse = parse_warden if lines is self._status else parse_child
        yield from map(parse, lines.read())
        if lines.problem is not None:
            yield broken(lines.problem)

    def _read_rest(self) -> Iterator[dict[str, Any]]:
        if not self._events.at_end:
            yield from self._messages(self._events)

    def stop(self) -> None:
        """Order a stop of the child and all it has started; ``stopped`` confirms it."""
        self._order(b"S")

    def resume(self) -> None:
        """Order that they continue; ``continued`` confirms it."""
        self._order(b"C")

    def terminate(self) -> None:
        """Order SIGTERM to the child's group; the warden kills it after the grace time."""
        self._order(b"T")

    def finish(self) -> None:
        """Order the child to end its measurement."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, b"F")

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline, order)

    def _wait_for_the_end(self) -> bool:
        """Wait until the warden closes its pipe; return False if that takes too long."""
        deadline = time.monotonic() + _END_S
        while not self._status.at_end:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._status.descriptor], [], [], left_s)[0]:
                return False
            for message in self._messages(self._status):
                self._exited = self._exited or message["event"] == "exited"
        return True

    def close(self) -> None:
        """Kill what is left and wait until it is gone."""
        if self._lifeline < 0:
            return
        os.close(self._lifeline)
        self._lifeline = -1
        if not self._wait_for_the_end():
            self._warden.kill()
        self._warden.bury(clean=self._exited)
        self._selector.close()
        os.close(self._orders)
        os.close(self._events.descriptor)
        os.close(self._status.descriptor)


class StartedWarden:
    """A warden that this process has started, and that has started its child."""

    def __init__(self, process: "subprocess.Popen[bytes]", known: set[int]) -> None:
        self._process = process
        self._known = known
        self._started = psutil.Process(process.pid).create_time()
        _WARDENS.add(process.pid)

    def kill(self) -> None:
        """Kill the warden."""
        self._process.kill()

    def bury(self, *, clean: bool) -> None:
        """Collect the warden; if it was killed, do its work."""
        self._process.wait()
        _WARDENS.discard(self._process.pid)
        if not clean:
            _kill_orphans(self._known, self._started)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a warden holds its child to.

    ``grace_s``: how long the child may take to end after SIGTERM. ``memory_floor_bytes``: the child
    is killed when less memory is available. ``confinement``: the child's limits and user.
    """

    grace_s: float
    memory_floor_bytes: int = 0
    confinement: Confinement = UNCONFINED


def start_warded(
    argv: Sequence[str],
    *,
    wires: Wires,
    environment: dict[str, str],
    working_directory: Path,
    log: Path,
    bounds: Bounds,
    more_descriptors: Sequence[int] = (),
) -> WardedProcess:
    """Start a child under a warden.

    Args:
        argv: the child's command line; the child inherits its ends of the wires.
        wires: new pipes; the other processes' ends are closed here.
        environment: the child's whole environment.
        working_directory: the child's.
        log: a file for the child's output; an old file is replaced.
        bounds: the child's.
        more_descriptors: further descriptors that the child inherits.
    """
    known = {child.pid for child in psutil.Process().children()}
    become_subreaper()  # if the warden is killed, its orphans become children of this process
    inherited = [*wires.childs, *more_descriptors]
    status, lifeline = wires.wardens
    numbers = [str(lifeline), str(status), ",".join(map(str, inherited))]
    limits = json.dumps(bounds.confinement.limits(bounds.memory_floor_bytes))
    entry = bounds.confinement.entry
    limited = [*numbers, str(bounds.grace_s), limits]
    command = [sys.executable, "-P", str(_WARDEN), *limited, "--", *argv]
    # the child's environment goes to the warden by standard input: the warden needs its own
    # environment, and argv or a file would show secrets
    child_environment = json.dumps(environment).encode()
    try:
        with create(log) as output:  # for appending: the warden may shorten it
            if entry is not None:  # for a script that opens /dev/stdout again
                os.fchown(output.fileno(), entry.pw_uid, entry.pw_gid)
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=working_directory,
                pass_fds=[*inherited, status, lifeline],
                start_new_session=True,
            )
    except BaseException:
        wires.close()
        raise
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(child_environment)
    return WardedProcess(wires, StartedWarden(process, known))


def _kill_orphans(known: set[int], since: float) -> None:
    """Kill what a dead warden left to this process, and no other child.

    Orphans arrive one generation after the other, so look until there are none twice in a row.

    Args:
        known: this process's children when the warden started.
        since: when that was, in seconds since the epoch.
    """
    quiet_looks, deadline = 0, time.monotonic() + _ORPHANS_S
    while quiet_looks < 2 and time.monotonic() < deadline:
        adopted = [p for p in psutil.Process().children() if _is_orphan(p, known, since)]
        found = [process for root in adopted for process in (root, *_below(root))]
        quiet_looks = 0 if found else quiet_looks + 1
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(1)
        time.sleep(0.02)


def _is_orphan(process: psutil.Process, known: set[int], since: float) -> bool:
    """Return whether a child of this process was left by a trial.

    A script may have changed anything of it, the environment too. But it is younger than the
    trial's warden, and it has a session of its own, as only trials and wardens have here.
    """
    if process.pid in known or process.pid in _WARDENS:
        return False
    try:
        return process.create_time() >= since and os.getsid(process.pid) != os.getsid(0)
    except (psutil.Error, OSError):
        return False


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []
