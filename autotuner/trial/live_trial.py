"""A trial's process while it runs: messages, phases and their deadlines, stop and continue."""

import contextlib
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import psutil

from autotuner.files import create
from autotuner.machine.host import count_oom_kills
from autotuner.options.study_spec import Timing
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.environment import build_environment
from autotuner.trial.folder import child_argv, prepare_folder
from autotuner.trial.fork_server import WarmParentError, WarmParents
from autotuner.trial.outcome import Phase
from autotuner.trial.progress import Mark, TrialProgress
from autotuner.trial.request import TrialRequest
from autotuner.trial.supervised import Bounds, WardedProcess, Wires, start_warded

PhaseListener = Callable[[Phase], None]
_SIGNAL_S = 5.0
_IMPORT_S = 60.0
_CLOSED_S = 5.0  # from the end of the pipe to the end of the process
_LATE = 1000  # messages that may still be read when a deadline has passed on a busy machine


def ignore_phase(phase: Phase) -> None:
    """Ignore the phase."""


def time_allowed(timing: Timing) -> dict[Phase, float]:
    """Return how long each phase may last, in seconds."""
    return {
        Phase.START: timing.start_timeout_s,
        Phase.WARMUP: timing.warmup_timeout_s,
        Phase.MEASURE: timing.measure_timeout_s,
        Phase.EXIT: timing.grace_s,
    }


class LiveTrial:
    """One trial's process. :func:`start_trial` makes it.

    ``started``: when the trial's own time began. ``held_s``: how long it was stopped after its
    import. ``cold_reason``: see :class:`autotuner.trial.outcome.Outcome`.
    """

    def __init__(
        self,
        request: TrialRequest,
        folder: Path,
        launched: "Launched",
        events: TextIO,
        on_phase: PhaseListener,
    ) -> None:
        self.request = request
        self.folder = folder
        self.cold_reason = launched.cold_reason
        self.progress = TrialProgress()
        self.timed_out: Phase | None = None
        self.started = self._entered = launched.began
        self.held_s = 0.0
        self._closed = math.inf
        self._process = launched.process
        self._allowed = launched.allowed
        self._kills_before = launched.oom_kills
        self._events = events
        self._on_phase = on_phase

    def close(self) -> None:
        """Kill what is left of the trial."""
        self._process.close()

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.progress.ended

    @property
    def over(self) -> bool:
        """Whether no more steps will come: the script ended, failed, or hangs."""
        return self.ended or self.progress.phase is Phase.EXIT or self.timed_out is not None

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process for lack of memory since the start."""
        return count_oom_kills() > self._kills_before

    @property
    def cpu_s(self) -> float:
        """CPU time of the trial's processes when it was last stopped."""
        return float((self.progress.stopped or {"cpu_s": 0.0})["cpu_s"])

    def note(self, event: str, **fields: Any) -> None:
        """Write a line of the parent's between the child's events."""
        self._events.write(json.dumps({"event": event, **fields}) + "\n")

    def follow(self, until: Callable[[], bool], *, end_s: float = math.inf) -> None:
        """Process messages until a condition holds, until a time, or until the process is gone.

        A phase that exceeds its deadline sets ``timed_out`` and returns as well.
        """
        late = 0
        while not self.ended and not until():
            deadline = self._deadline()
            late = late + 1 if time.monotonic() >= min(deadline, end_s) else 0
            message = self._process.receive(min(deadline, end_s)) if late <= _LATE else None
            if message is not None:
                self._take(message)
            elif time.monotonic() >= deadline:
                if self.progress.is_cut_off:
                    self.progress.cut_off()
                    return
                # in the exit phase the result has arrived: the script merely does not end
                ending = self.progress.phase is Phase.EXIT
                self.timed_out = None if ending else self.progress.phase
                return
            else:
                return

    def _deadline(self) -> float:
        deadline = self._entered + self._allowed[self.progress.phase]
        return min(deadline, self._closed + _CLOSED_S) if self.progress.is_cut_off else deadline

    def _take(self, message: Mapping[str, Any]) -> None:
        before = self.progress.phase
        self.progress.take(message)
        if message["event"] == "closed":
            self._closed = time.monotonic()
        if message["event"] != "closed":
            self._events.write(json.dumps(message) + "\n")
        if self.progress.phase is not before:
            self._entered = time.monotonic()
            self._on_phase(self.progress.phase)

    def stop(self) -> float:
        """Stop the processes; return when they last worked, in monotonic seconds."""
        self._process.stop()
        self._wait_for(lambda: self.progress.stopped is not None)
        return float((self.progress.stopped or {"t": time.monotonic()})["t"])

    def resume(self) -> float:
        """Continue the processes; return when that was, in monotonic seconds."""
        was_stopped = self.progress.stopped
        self._process.resume()
        self._wait_for(lambda: self.progress.stopped is None)
        if was_stopped is not None:
            self._entered += time.monotonic() - was_stopped["t"]
        return time.monotonic()

    def hold_after_import(self) -> None:
        """Let the process import TensorFlow, then stop it until :meth:`release`.

        A script without TensorFlow is stopped after its first step.
        """

        def is_ready() -> bool:
            known = self.progress
            return self.over or bool(known.build) or known.phase is not Phase.START

        self.follow(is_ready, end_s=time.monotonic() + _IMPORT_S)
        if not self.over:
            self.stop()

    def release(self) -> None:
        """Continue the process after a hold; the trial's own time begins now."""
        stopped = self.progress.stopped
        if stopped is not None:
            self.started = self.resume()
            self.held_s = self.started - stopped["t"]

    def _wait_for(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + _SIGNAL_S
        while not self.ended and not done() and time.monotonic() < end:
            message = self._process.receive(end)
            if message is not None:
                self._take(message)

    def renew_deadline(self) -> None:
        """Restart the current phase's deadline."""
        self._entered = time.monotonic()

    def ask_to_finish(self) -> None:
        """Tell the child that the measurement is complete."""
        self._process.finish()

    def run_to_end(self) -> None:
        """Follow the process to its end; kill it if it does not end in time."""
        self.follow(lambda: False)
        if self.ended:
            return
        self._process.terminate()
        end = time.monotonic() + self.request.timing.grace_s + 5
        while not self.ended and time.monotonic() < end:
            message = self._process.receive(end)
            if message is None:
                return
            self.progress.take(message)
            self._events.write(json.dumps(message) + "\n")

    @property
    def marks(self) -> list[Mark]:
        """The ends of steps since the measurement began, or since :meth:`forget_marks`."""
        return self.progress.marks.get(self.progress.measuring or "", [])

    def forget_marks(self) -> None:
        """Drop the marks so far; a long-lived process has very many."""
        self.progress.marks.clear()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launched:
    """A process and how it began. ``allowed``: seconds for each phase.

    ``began``: monotonic seconds. ``oom_kills``: the kernel's count of kills before the start.
    """

    process: WardedProcess
    allowed: Mapping[Phase, float]
    cold_reason: str
    began: float
    oom_kills: int


@contextlib.contextmanager
def start_trial(
    request: TrialRequest,
    folder: Path,
    *,
    base_environment: Mapping[str, str],
    memory_floor_bytes: int,
    on_phase: PhaseListener,
    warm_parents: WarmParents | None = None,
    confinement: Confinement = UNCONFINED,
) -> Iterator[LiveTrial]:
    """Prepare the folder and start or fork the process; leaving the context kills what is left.

    Raises:
        UserError: if the folder can't be written.
    """
    folder = folder.absolute()
    prepare_folder(folder, request, confinement)
    began, oom_kills = time.monotonic(), count_oom_kills()
    with io.TextIOWrapper(create(folder / "events.jsonl"), encoding="utf-8") as events:
        environment = build_environment(request, base_environment)
        allowed, wires, cold_reason = time_allowed(request.timing), Wires(), ""
        process = None
        if request.warm_start is not None and warm_parents is not None:
            try:
                process = warm_parents.fork(request, folder, wires, environment, memory_floor_bytes)
                allowed[Phase.START] = request.warm_start.start_timeout_s
            except WarmParentError as error:
                cold_reason = str(error)
        if process is None:
            process = start_warded(
                child_argv(folder, request, *wires.childs),
                wires=wires,
                environment=environment,
                working_directory=request.working_directory,
                log=folder / "output.log",
                bounds=Bounds(
                    grace_s=request.timing.grace_s,
                    memory_floor_bytes=memory_floor_bytes,
                    confinement=confinement,
                ),
            )
        launched = Launched(
            process=process,
            allowed=allowed,
            cold_reason=cold_reason,
            began=began,
            oom_kills=oom_kills,
        )
        with process:
            trial = LiveTrial(request, folder, launched, events, on_phase)
            on_phase(Phase.START)  # inside: Ctrl-C may arrive while the listener runs
            yield trial


def machine_cpu_s() -> float:
    """Return the CPU time used by everything on this machine, in seconds."""
    times = psutil.cpu_times()
    busy = ("user", "nice", "system", "irq", "softirq")
    return float(sum(getattr(times, name, 0.0) for name in busy))
