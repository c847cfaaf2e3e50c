"""The warden: a small process between the parent and a trial that lets nothing survive.

Command line, for a trial that is started::

    PYTHON -P warden.py LIFELINE_FD STATUS_FD FDS GRACE_S LIMITS -- CHILD_ARGV...

It starts CHILD_ARGV in a session of its own with FDS (numbers with commas) open. LIMITS is a JSON
object: ``memory_floor``, ``memory_most`` and ``processes_most`` (0: none), and ``user``, ``group``
and ``groups`` (numbers) where the child is to run as somebody else. A trial that is forked by a
warm parent has a warden that was forked, too, see forking.py. The warden becomes the
reaper of everything that the child leaves behind (PR_SET_CHILD_SUBREAPER, so a double fork does
not escape), and waits:

- the child ends: whatever it started is killed;
- ``S`` arrives on the lifeline: SIGSTOP to the child and all its descendants; ``C``: SIGCONT;
- ``T`` arrives on the lifeline: SIGTERM to the child's group, after GRACE_S SIGKILL to all;
- the lifeline is closed, because the parent closed it or died, by kill -9 too: SIGKILL to all;
- less than ``memory_floor`` bytes of the machine's memory are available: SIGKILL to all, before
  the kernel picks a victim of its own;
- the child and its descendants have more than ``memory_most`` bytes resident together (what several
  of them share is counted once), or are more than ``processes_most``: SIGKILL to all;
- standard output, a file, is longer than 16 MiB: its middle is dropped, head and tail are kept.

If the warden itself is killed, the child dies by PR_SET_PDEATHSIG. On STATUS_FD it writes JSON
lines: ``started`` (pid) or ``not_started`` (reason), ``stopped`` (t: monotonic seconds just before;
``cpu_s``: CPU time of the child and its descendants so far), ``continued`` (t: just after),
``low_memory`` (available, floor), ``over_limit`` (what, used, most), ``exited`` (code, or signal).

Standard library only, as it may run in the user's interpreter; what psutil would tell is read from
/proc. The child's environment comes as a JSON object on standard input; working directory, standard
output and standard error are handed through.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Callable, NamedTuple

_POLL_S = 0.25
_STDOUT = 1
_MOST_LOG, _HEAD, _TAIL = 16 * 2**20, 2**20, 2**20
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def prctl(option: int, value: int) -> None:
    """Call prctl(2)."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """Have this process killed when its parent ends, however that ends."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def begin_as_somebody_else() -> None:
    """Do in a child what :func:`die_with_parent` does, and let no setuid program give it more."""
    die_with_parent()  # what changes the user takes this back, so it comes after that
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_subreaper() -> None:
    """Make orphans among this process's descendants its own children."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Process(NamedTuple):
    """A process as /proc shows it. ``cpu_s``: with that of children it has waited for."""

    pid: int
    parent: int
    state: str
    cpu_s: float
    resident_bytes: int

    @property
    def is_alive(self) -> bool:
        """Whether it is more than an entry that waits to be collected."""
        return self.state not in ("Z", "X")


def read_processes() -> list[Process]:
    """Return all processes."""
    found = []
    tick_s, page = 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()  # a name may hold spaces
        except OSError:
            continue  # it has ended meanwhile
        ticks = sum(int(field) for field in fields[11:15])
        resident = int(fields[21]) * page
        found.append(Process(int(name), int(fields[1]), fields[0], ticks * tick_s, resident))
    return found


def descendants(root: int) -> list[Process]:
    """Return all processes below one."""
    below: dict[int, list[Process]] = {}
    for process in read_processes():
        below.setdefault(process.parent, []).append(process)
    found = list(below.get(root, ()))
    for process in found:  # grows meanwhile
        found += below.get(process.pid, ())
    return found


def used_bytes(processes: list[Process], most: int) -> int:
    """Return what processes have resident together, exactly where it may be more than ``most``.

    What they share, such as libraries and what was there before a fork, is counted once then. That
    takes the kernel some milliseconds, in which the process waits, so it is not asked before.
    """
    roughly = sum(process.resident_bytes for process in processes)
    return roughly if roughly <= most else sum(map(_share_bytes, processes))


def _share_bytes(process: Process) -> int:
    """Return what a process has resident, with its share of what others have as well."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # it has ended, or may not be looked into
        pass
    return process.resident_bytes


_MEASURES: dict[str, Callable[[list[Process], int], int]] = {
    "memory_most": used_bytes,
    "processes_most": lambda processes, most: len(processes),
}


def available_bytes() -> int:
    """Return how much memory the machine can still give away."""
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return sys.maxsize


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def kill_descendants(wait_s: float = 8.0) -> None:
    """Kill everything below this process, until nothing new turns up, and reap what is ours.

    The parent waits for ten seconds.
    """
    started = time.monotonic()
    while time.monotonic() < started + wait_s:
        alive = [process for process in descendants(os.getpid()) if process.is_alive]
        for process in alive:
            _send(process.pid, signal.SIGKILL)
        _reap_orphans()
        if not alive:
            return
        if time.monotonic() < started + _POLL_S:
            time.sleep(0.01)
        else:
            _go_first()


def _go_first() -> None:
    """Be scheduled before all others, where that is allowed.

    Processes that fork for as long as they live would else leave us a small part of the CPUs, and
    be more in the time between our looking and our killing.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        time.sleep(0.01)


def _reap_orphans(keep: int = 0) -> None:
    """Collect ended orphans, but not the child itself."""
    for process in read_processes():
        if process.parent == os.getpid() and process.pid != keep and not process.is_alive:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                continue


class Warden:
    """Watches one child."""

    def __init__(self, lifeline: int, status: int, grace_s: float, limits: dict[str, Any]) -> None:
        self._lifeline = lifeline
        self._status = status
        self._grace_s = grace_s
        self._limits = dict(limits)
        self._kill_at: float | None = None
        self._look_at = 0.0
        self._dropped = 0
        self._wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _hear)

    def _say(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}) + "\n"
        try:
            os.write(self._status, line.encode())
        except BrokenPipeError:  # the parent is gone; its lifeline tells us the same
            return

    def run(self, argv: list[str], descriptors: list[int]) -> None:
        """Start the child, watch it, end with nothing left."""
        become_subreaper()
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                env=json.load(sys.stdin),
                pass_fds=descriptors,
                start_new_session=True,
                **_as_whom(self._limits),
            )
        except OSError as error:
            self._say("not_started", reason=error.strerror)
            self._say("exited", code=127, signal=None)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        code = self.watch(child.pid)
        child.returncode = code  # it has been waited for

    def watch(self, pid: int) -> int:
        """Watch a child of this process until nothing of it is left; return how it ended."""
        self._say("started", pid=pid)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            self._wait(pid)
        kill_descendants()
        code = os.waitstatus_to_exitcode(status)
        self._say("exited", code=code if code >= 0 else None, signal=-code if code < 0 else None)
        return code

    def _wait(self, pid: int) -> None:
        watched = [self._wake] if self._kill_at is not None else [self._wake, self._lifeline]
        ready, _, _ = select.select(watched, [], [], _POLL_S)
        if self._wake in ready:
            os.read(self._wake, 4096)
            _reap_orphans(keep=pid)
        if self._lifeline in ready:
            self._obey(os.read(self._lifeline, 1), pid)
        if self._kill_at is not None:
            closed, _, _ = select.select([self._lifeline], [], [], 0)
            if closed or time.monotonic() >= self._kill_at:
                self._kill_all(pid)
        self._shorten_log()
        available = available_bytes()
        if available < self._limits["memory_floor"]:
            self._say("low_memory", available=available, floor=self._limits["memory_floor"])
            self._limits["memory_floor"] = 0
            self._kill_all(pid)
        limited = self._limits["memory_most"] or self._limits["processes_most"]
        if limited and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _POLL_S  # not at every turn of a duel
            self._look_at_use(pid)

    def _look_at_use(self, pid: int) -> None:
        """Kill everything if it uses more than it may."""
        alive = [process for process in descendants(os.getpid()) if process.is_alive]
        for what, measure in _MEASURES.items():
            most = self._limits[what]
            used = measure(alive, most) if most else 0
            if used > most:
                self._say("over_limit", what=what, used=used, most=most)
                self._limits[what] = 0
                self._kill_all(pid)

    def _shorten_log(self) -> None:
        """Drop the middle of a log that has got too long.

        What is printed in that very moment may be lost or come before the tail: the script is not
        stopped for it.

        The script writes to a file that is opened for appending, so that it goes on at the new end.
        """
        size = os.fstat(_STDOUT).st_size
        if size <= _MOST_LOG:
            return
        try:
            log = os.open(f"/proc/self/fd/{_STDOUT}", os.O_RDWR)
        except OSError:
            return
        try:
            tail = os.pread(log, _TAIL, size - _TAIL)
            self._dropped += size - _HEAD - len(tail)
            os.ftruncate(log, _HEAD)
            os.write(_STDOUT, f"\n[autotune: {self._dropped:,} bytes left out]\n".encode() + tail)
        except OSError:  # such as a full disk: a log is not worth the trial
            return
        finally:
            os.close(log)

    def _obey(self, order: bytes, pid: int) -> None:
        if order == b"S":
            before = time.monotonic()
            self._signal_tree(pid, signal.SIGSTOP)
            cpu_s = sum(process.cpu_s for process in descendants(os.getpid()))
            self._say("stopped", t=before, cpu_s=cpu_s)
        elif order == b"C":
            self._signal_tree(pid, signal.SIGCONT)
            self._say("continued", t=time.monotonic())
        elif order == b"T":
            self._signal_group(pid, signal.SIGTERM)
            self._signal_tree(pid, signal.SIGCONT)  # a stopped process hears nothing else
            self._kill_at = time.monotonic() + self._grace_s
        else:
            self._kill_all(pid)

    def _signal_tree(self, pid: int, number: int) -> None:
        """Signal the child's group, and descendants that have left it."""
        self._signal_group(pid, number)
        for process in descendants(os.getpid()):
            try:
                if os.getpgid(process.pid) != pid:
                    _send(process.pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def _kill_all(self, pid: int) -> None:
        self._signal_group(pid, signal.SIGKILL)
        self._kill_at = self._kill_at or time.monotonic()

    @staticmethod
    def _signal_group(pid: int, number: int) -> None:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            return


def _as_whom(limits: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of Popen with which a child begins as whom it is to run."""
    if limits.get("user") is None:
        return {"preexec_fn": die_with_parent}
    return {
        "user": limits["user"],
        "group": limits["group"],
        "extra_groups": limits["groups"],
        "preexec_fn": begin_as_somebody_else,
    }


def _hear(number: int, frame: Any) -> None:
    """Let a signal wake us, and nothing more. Not SIG_IGN: a child inherits that."""


def main(argv: list[str]) -> None:
    """Run the warden of a trial that is to be started."""
    lifeline, status, descriptors, grace_s, limits, separator, *child = argv
    assert separator == "--"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _hear)  # the parent decides; we go when its lifeline closes
    warden = Warden(int(lifeline), int(status), float(grace_s), json.loads(limits))
    warden.run(child, [int(descriptor) for descriptor in descriptors.split(",")])


if __name__ == "__main__":
    main(sys.argv[1:])
