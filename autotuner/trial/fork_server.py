"""Warm parents: processes that have imported TensorFlow and fork trials.

Each combination of values that are read at process start or at an import has its own parent.
child/forking.py is their half of the protocol. If a fork fails, the trial is started instead.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from autotuner.files import create
from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.knobs.knob import Configuration, Means, ReadAt
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.environment import build_environment
from autotuner.trial.request import CHILD_MAIN, TrialRequest
from autotuner.trial.supervised import Bounds, WardedProcess, Wires, start_warded

MOST_PARENTS = 4
_LEAST_MEMORY_BYTES = 2 * 2**30
_IMPORT_S = 120.0
_FORK_S = 10.0
# a forked warden would belong to the script's user, and the script could stop it
_OTHER_USER = "scripts run as another user, and their processes can't be forked"
_BEFORE_A_FORK = (ReadAt.EXEC, ReadAt.LIBRARY_LOAD, ReadAt.TF_IMPORT)


class WarmParentError(Exception):
    """A trial can't be forked; the text is the reason, for the user."""


def values_at_import(configuration: Configuration) -> Configuration:
    """Return the values that are read before a fork, which a forked process can't change."""
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
        """Close the warm parent after a kill: only its warden can find what this one left.

        The warm parent itself collects the ended process.
        """
        if not clean:
            self._parent.close()


class _WarmParent:
    """One process. The constructor returns when its imports are done."""

    def __init__(
        self,
        request: TrialRequest,
        modules: Sequence[str],
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
                [str(request.python), str(CHILD_MAIN), "--warm", *numbers, ",".join(modules)],
                wires=wires,
                environment={**environment, "OPENBLAS_NUM_THREADS": "1"},
                working_directory=request.working_directory,
                log=folder / "output.log",
                bounds=Bounds(grace_s=request.timing.grace_s),
                more_descriptors=(theirs.fileno(),),
            )
        self._closed = False
        try:
            self._await("ready", _IMPORT_S)
        except BaseException:
            self.close()
            raise

    def _await(self, wanted: str, timeout_s: float) -> int:
        """Wait for one event and return its pid.

        Raises:
            WarmParentError: if another event or none arrives.
        """
        deadline = time.monotonic() + timeout_s
        while (message := self._process.receive(deadline)) is not None:
            event = message["event"]
            if event == wanted:
                return int(message.get("pid", 0))
            if event in ("refused", "error"):
                raise WarmParentError(message.get("reason") or message.get("text") or event)
            if event in ("exited", "warden_gone", "not_started"):
                raise WarmParentError("it ended by itself")
        raise WarmParentError(f"it did not answer within {timeout_s:g} s")

    @property
    def is_closed(self) -> bool:
        """Whether the process is gone."""
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
        with create(folder / "output.log") as output:
            descriptors = [*wires.theirs, output.fileno()]
            try:
                socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
            except OSError as error:  # the process is gone, or the environment exceeds a packet
                raise WarmParentError(str(error)) from error
            pid = self._await("forked", _FORK_S)
        return WardedProcess(wires, _ForkedWarden(pid, self))

    def close(self) -> None:
        """End the process and everything it has forked."""
        self._closed = True
        self._socket.close()
        self._process.close()


class WarmParents:
    """The warm parents of a run. ``why_not``: why forking has ended; "" while it goes on."""

    def __init__(
        self, base_environment: Mapping[str, str], confinement: Confinement = UNCONFINED
    ) -> None:
        self._base = base_environment
        self._confinement = confinement
        self._parents: OrderedDict[str, _WarmParent] = OrderedDict()
        self._made = 0
        self.why_not = "" if confinement.user is None else _OTHER_USER

    def fork(
        self,
        request: TrialRequest,
        folder: Path,
        wires: Wires,
        environment: dict[str, str],
        memory_floor_bytes: int,
    ) -> WardedProcess:
        """Fork a trial from the warm parent that fits its request, started if need be.

        Raises:
            WarmParentError: if the process has to be started instead, with the reason. No trial is
                forked after that.
        """
        if self.why_not:
            raise WarmParentError(self.why_not)
        try:
            parent = self._parent(request, folder)
            return parent.fork(request, folder, wires, environment, memory_floor_bytes)
        except WarmParentError as error:
            self.give_up(f"a warm parent can't be used: {error}")
            raise WarmParentError(self.why_not) from error

    def _parent(self, request: TrialRequest, folder: Path) -> _WarmParent:
        assert request.warm_start is not None
        modules = request.warm_start.modules
        fixed = values_at_import(request.configuration)
        key = json.dumps([as_environment(fixed), request.environment, modules])
        found = self._parents.pop(key, None)
        if found is None or found.is_closed:
            self._make_room()
            self._made += 1
            at_import = dataclasses.replace(request, configuration=fixed)
            environment = build_environment(at_import, self._base)
            place = folder.parent / f"warm-{self._made:04d}"
            found = _WarmParent(request, modules, place, environment, self._confinement)
        self._parents[key] = found  # the most recently used is last
        return found

    def _make_room(self) -> None:
        """End the least recently used parents while there are too many or memory is short."""
        short = psutil.virtual_memory().available < _LEAST_MEMORY_BYTES
        while self._parents and (short or len(self._parents) >= MOST_PARENTS):
            self._parents.popitem(last=False)[1].close()
            short = psutil.virtual_memory().available < _LEAST_MEMORY_BYTES

    def give_up(self, why: str) -> None:
        """End all parents; every further :meth:`fork` raises with this reason."""
        self.why_not = why
        self.close()

    def close(self) -> None:
        """End all parents."""
        while self._parents:
            self._parents.popitem()[1].close()
