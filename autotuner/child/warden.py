"""The warden: a small process between the parent and a trial that kills everything at the end.

Command line, for a trial that is started::

    PYTHON -P warden.py LIFELINE_FD STATUS_FD FDS GRACE_S LIMITS -- CHILD_ARGV...

It starts CHILD_ARGV in its own session with FDS (numbers separated by commas) open. LIMITS is a
JSON object: ``memory_floor``, ``memory_most`` and ``processes_most`` (0: no limit), and ``user``,
``group`` and ``groups`` (numbers) if the child runs as another user. A warm parent forks a warden
as well as a trial, see forking.py. The warden becomes the reaper of everything that the child
leaves behind (PR_SET_CHILD_SUBREAPER, so a double fork does not escape), and waits:

- the child ends: everything that it started is killed;
- ``S`` arrives on the lifeline: SIGSTOP to the child and all its descendants; ``C``: SIGCONT;
- ``T`` arrives on the lifeline: SIGTERM to the child's group, after GRACE_S SIGKILL to all;
- the lifeline is closed, because the parent closed it or died (also by kill -9): SIGKILL to all;
- less than ``memory_floor`` bytes of the machine's memory are available: SIGKILL to all, before
  the kernel picks a victim;
- the child and its descendants have more than ``memory_most`` bytes resident together (shared
  memory counts once), or are more than ``processes_most`` processes: SIGKILL to all;
- standard output, a file, is longer than 16 MiB: its middle is dropped, head and tail are kept.

If the warden is killed, the child dies by PR_SET_PDEATHSIG. The warden writes JSON lines to
STATUS_FD: ``started`` (pid) or ``not_started`` (reason), ``stopped`` (t: monotonic seconds just
before; ``cpu_s``: CPU time of the child and its descendants so far), ``continued`` (t: just after),
``low_memory`` (available, floor), ``over_limit`` (what, used, most), ``exited`` (code, or signal).

Standard library only, because it may run in the user's interpreter; it reads /proc instead of using
psutil. The child's environment arrives as a JSON object on standard input. The child inherits
working directory, standard output and standard error.
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
    """Have the kernel kill this process when its parent ends."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def begin_as_other_user() -> None:
    """Call :func:`die_with_parent`, and forbid setuid programs to raise privileges."""
    die_with_parent()  # after the change of user, which resets it
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_subreaper() -> None:
    """Make orphans among this process's descendants its own children."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Process(NamedTuple):
    """A process in /proc. ``cpu_s`` includes the children it has waited for."""

    pid: int
    parent: int
    state: str
    cpu_s: float
    resident_bytes: int

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs, not a zombie."""
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
            continue  # the process has ended
        ticks = sum(int(field) for field in fields[11:15])
        resident = int(fields[21]) * page
        found.append(Process(int(name), int(fields[1]), fields[0], ticks * tick_s, resident))
    return found


def descendants(root: int) -> list[Process]:
    """Return all descendants of a process."""
    below: dict[int, list[Process]] = {}
    for process in read_processes():
        below.setdefault(process.parent, []).append(process)
    found = list(below.get(root, ()))
    for process in found:  # the list grows in the loop
        found += below.get(process.pid, ())
    return found


def used_bytes(processes: list[Process], most: int) -> int:
    """Return the resident memory of processes; exact if it may exceed ``most``.

    The exact number counts shared memory, such as libraries and pages from before a fork, once. It
    takes the kernel some milliseconds, during which the process waits, so it is read only then.
    """
    roughly = sum(process.resident_bytes for process in processes)
    return roughly if roughly <= most else sum(map(_share_bytes, processes))


def _share_bytes(process: Process) -> int:
    """Return a process's resident memory, with its share of shared pages."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # the process has ended, or access is denied
        pass
    return process.resident_bytes


_MEASURES: dict[str, Callable[[list[Process], int], int]] = {
    "memory_most": used_bytes,
    "processes_most": lambda processes, most: len(processes),
}


def available_bytes() -> int:
    """Return the memory that is available on the machine."""
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
    """Kill and reap all descendants until no new ones appear.

    The parent waits ten seconds for this.
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
            _take_priority()


def _take_priority() -> None:
    """Run with real-time priority, if allowed.

    Processes that fork without end would otherwise leave the warden little CPU time, and multiply
    between its check and its kill.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        time.sleep(0.01)


def _reap_orphans(keep: int = 0) -> None:
    """Collect ended orphans, but not the child."""
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
        self._check_at = 0.0
        self._dropped = 0
        self._wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_only)

    def _report(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}) + "\n"
        try:
            os.write(self._status, line.encode())
        except BrokenPipeError:  # the parent is gone; the lifeline shows it as well
            return

    def run(self, argv: list[str], descriptors: list[int]) -> None:
        """Start the child and watch it until nothing is left."""
        become_subreaper()
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                env=json.load(sys.stdin),
                pass_fds=descriptors,
                start_new_session=True,
                **_user_arguments(self._limits),
            )
        except OSError as error:
            self._report("not_started", reason=error.strerror)
            self._report("exited", code=127, signal=None)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        code = self.watch(child.pid)
        child.returncode = code  # watch() has waited for it

    def watch(self, pid: int) -> int:
        """Watch a child of this process until nothing of it is left; return its exit code."""
        self._report("started", pid=pid)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            self._wait(pid)
        kill_descendants()
        code = os.waitstatus_to_exitcode(status)
        self._report("exited", code=code if code >= 0 else None, signal=-code if code < 0 else None)
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
            self._report("low_memory", available=available, floor=self._limits["memory_floor"])
            self._limits["memory_floor"] = 0
            self._kill_all(pid)
        limited = self._limits["memory_most"] or self._limits["processes_most"]
        if limited and time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _POLL_S  # not at every turn of a duel
            self._check_use(pid)

    def _check_use(self, pid: int) -> None:
        """Kill everything if the trial exceeds a limit."""
        alive = [process for process in descendants(os.getpid()) if process.is_alive]
        for what, measure in _MEASURES.items():
            most = self._limits[what]
            used = measure(alive, most) if most else 0
            if used > most:
                self._report("over_limit", what=what, used=used, most=most)
                self._limits[what] = 0
                self._kill_all(pid)

    def _shorten_log(self) -> None:
        """Drop the middle of a log that is too long.

        Output printed at that moment may be lost and not counted, or precede the tail, because the
        script is not stopped. Its file is open for appending, so it continues at the new end.
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
            # the script has written more meanwhile
            self._dropped += os.fstat(_STDOUT).st_size - _HEAD - len(tail)
            os.ftruncate(log, _HEAD)
            os.write(_STDOUT, f"\n[autotune: {self._dropped:,} bytes left out]\n".encode() + tail)
        except OSError:  # such as a full disk: the trial matters more than its log
            return
        finally:
            os.close(log)

    def _obey(self, order: bytes, pid: int) -> None:
        if order == b"S":
            before = time.monotonic()
            self._signal_tree(pid, signal.SIGSTOP)
            cpu_s = sum(process.cpu_s for process in descendants(os.getpid()))
            self._report("stopped", t=before, cpu_s=cpu_s)
        elif order == b"C":
            self._signal_tree(pid, signal.SIGCONT)
            self._report("continued", t=time.monotonic())
        elif order == b"T":
            self._signal_group(pid, signal.SIGTERM)
            self._signal_tree(pid, signal.SIGCONT)  # a stopped process reacts to nothing else
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


def _user_arguments(limits: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of Popen for the child's user."""
    if limits.get("user") is None:
        return {"preexec_fn": die_with_parent}
    return {
        "user": limits["user"],
        "group": limits["group"],
        "extra_groups": limits["groups"],
        "preexec_fn": begin_as_other_user,
    }


def _wake_only(number: int, frame: Any) -> None:
    """Let a signal wake the warden and do nothing else. A child would inherit SIG_IGN."""


def main(argv: list[str]) -> None:
    """Run the warden and start its trial."""
    lifeline, status, descriptors, grace_s, limits, separator, *child = argv
    assert separator == "--"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _wake_only)  # the warden ends only when the lifeline closes
    warden = Warden(int(lifeline), int(status), float(grace_s), json.loads(limits))
    warden.run(child, [int(descriptor) for descriptor in descriptors.split(",")])


if __name__ == "__main__":
    main(sys.argv[1:])
