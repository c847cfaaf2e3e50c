"""Warm parents: processes in which TensorFlow has been imported, each of which forks trials.

One for each combination of settings that are read at the start of a process or by an import; see
child/forking.py for their half. Where a warm parent can't be had, a trial is started as usual.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import psutil

from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.knobs.knob import Configuration, Means, ReadAt
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.environment import build_environment
from autotuner.trial.request import CHILD_MAIN, TrialRequest, WarmStart
from autotuner.trial.supervised import WardedProcess, Wires, start_warded

MOST_PARENTS = 4
_LEAST_MEMORY_BYTES = 2 * 2**30
_IMPORT_S = 120.0
_FORK_S = 10.0
# a forked warden would be the script's user, too, who could stop it
_AS_SOMEBODY_ELSE = "scripts run as another user, whose processes are started one by one"
_BEFORE_A_FORK = (ReadAt.EXEC, ReadAt.LIBRARY_LOAD, ReadAt.TF_IMPORT)


class WarmParentError(Exception):
    """A warm parent can't be had or does not fork; the text says why, for the user."""


def settings_at_import(configuration: Configuration) -> Configuration:
    """Return those settings of a configuration that a forked process can't change any more."""
    return {
        name: value
        for name, value in configuration.items()
        if KNOBS[name].read_at in _BEFORE_A_FORK and KNOBS[name].means is not Means.AFFINITY
    }


class _ForkedWarden:
    """A warden that a warm parent has forked."""

    def __init__(self, pid: int, parent: "_WarmParent") -> None:
        self._pid = pid
        self._parent = parent

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def bury(self, *, clean: bool) -> None:
        """The warm parent collects it. What it has left behind is known only as that one's."""
        if not clean:
            self._parent.close()


class _WarmParent:
    """One process; it has imported when this returns."""

    def __init__(
        self,
        request: TrialRequest,
        start: WarmStart,
        folder: Path,
        environment: dict[str, str],
        confinement: Confinement,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._confinement = confinement
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        wires = Wires()
        numbers = [str(theirs.fileno()), str(wires.events_write)]
        with theirs:
            self._process = start_warded(
                [str(request.python), str(CHILD_MAIN), "--warm", *numbers, ",".join(start.modules)],
                wires=wires,
                environment={**environment, "OPENBLAS_NUM_THREADS": "1"},
                working_directory=request.working_directory,
                log=folder / "output.log",
                grace_s=request.timing.grace_s,
                memory_floor_bytes=0,
                more_descriptors=(theirs.fileno(),),
            )
        self._closed = False
        try:
            self._await("ready", _IMPORT_S)
        except BaseException:
            self.close()
            raise

    def _await(self, wanted: str, timeout_s: float) -> int:
        """Return the pid in the message that is wanted; any other than that is a refusal."""
        deadline = time.monotonic() + timeout_s
        while (message := self._process.receive(deadline)) is not None:
            event = message["event"]
            if event == wanted:
                return int(message.get("pid", 0))
            if event in ("refused", "error"):
                raise WarmParentError(message.get("reason") or message.get("text") or event)
            if event in ("exited", "warden_gone", "not_started"):
                raise WarmParentError("it has ended by itself")
        raise WarmParentError(f"it did not answer within {timeout_s:g} s")

    @property
    def is_closed(self) -> bool:
        """Whether it is gone."""
        return self._closed

    def fork(
        self,
        request: TrialRequest,
        folder: Path,
        wires: Wires,
        environment: dict[str, str],
        memory_floor_bytes: int,
    ) -> WardedProcess:
        """Fork a trial. Raises WarmParentError."""
        order = {
            "request": str(folder / "request.json"),
            "environment": environment,
            "directory": str(request.working_directory),
            "grace_s": request.timing.grace_s,
            "limits": self._confinement.limits(memory_floor_bytes),
        }
        log = folder / "output.log"
        log.unlink(missing_ok=True)
        with log.open("ab") as output:
            descriptors = [*wires.theirs, output.fileno()]
            try:
                socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
            except OSError as error:  # it is gone, or the environment is too long for a packet
                raise WarmParentError(str(error)) from error
            pid = self._await("forked", _FORK_S)
        return WardedProcess(wires, _ForkedWarden(pid, self))

    def close(self) -> None:
        """End it, with everything that it has forked and that is still there."""
        self._closed = True
        self._socket.close()
        self._process.close()


class WarmParents:
    """The warm parents of a run. ``why_not``: why there are none any more, once that is so."""

    def __init__(
        self, base_environment: Mapping[str, str], confinement: Confinement = UNCONFINED
    ) -> None:
        self._base = base_environment
        self._confinement = confinement
        self._parents: OrderedDict[str, _WarmParent] = OrderedDict()
        self._made = 0
        self.why_not = "" if confinement.user is None else _AS_SOMEBODY_ELSE

    def launch(
        self,
        request: TrialRequest,
        start: WarmStart,
        folder: Path,
        wires: Wires,
        environment: dict[str, str],
        memory_floor_bytes: int,
    ) -> WardedProcess | None:
        """Return a forked process; None if it has to be started by itself."""
        if self.why_not:
            return None
        try:
            parent = self._parent(request, start, folder)
            return parent.fork(request, folder, wires, environment, memory_floor_bytes)
        except WarmParentError as error:
            self.give_up(f"a warm parent can't be had: {error}")
            return None

    def _parent(self, request: TrialRequest, start: WarmStart, folder: Path) -> _WarmParent:
        fixed = settings_at_import(request.configuration)
        key = json.dumps([as_environment(fixed), request.environment, start.modules])
        found = self._parents.pop(key, None)
        if found is None or found.is_closed:
            self._make_room()
            self._made += 1
            at_import = dataclasses.replace(request, configuration=fixed)
            environment = build_environment(at_import, self._base)
            place = folder.parent / f"warm-{self._made:04d}"
            found = _WarmParent(request, start, place, environment, self._confinement)
        self._parents[key] = found  # the latest is last
        return found

    def _make_room(self) -> None:
        """End the one that has not been used for longest, if there are many or memory is short."""
        short = psutil.virtual_memory().available < _LEAST_MEMORY_BYTES
        while self._parents and (short or len(self._parents) >= MOST_PARENTS):
            self._parents.popitem(last=False)[1].close()
            short = psutil.virtual_memory().available < _LEAST_MEMORY_BYTES

    def give_up(self, why: str) -> None:
        """Fork no more."""
        self.why_not = why
        self.close()

    def close(self) -> None:
        """End all of them."""
        while self._parents:
            self._parents.popitem()[1].close()
