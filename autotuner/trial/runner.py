"""Runs one trial in a real process and says how it ended.

:class:`Runner` is the interface that the search knows; a replay of recorded trials can stand behind
it as well.
"""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil

from autotuner.machine import count_oom_kills
from autotuner.spec.study_spec import Timing
from autotuner.trial.environment import build_environment
from autotuner.trial.folder import child_argv, last_lines, prepare_folder
from autotuner.trial.outcome import Cost, Notice, Outcome, Phase, Status, Window
from autotuner.trial.process import WardedProcess
from autotuner.trial.request import Kind, TrialRequest

_SIGKILL = 9
PhaseListener = Callable[[Phase], None]


class Runner(Protocol):
    """Whatever can answer a request with an outcome."""

    def run(self, request: TrialRequest, folder: Path, on_phase: PhaseListener = ...) -> Outcome:
        """Run one trial and return how it ended."""


def default_memory_floor() -> int:
    """Return the available memory in bytes below which a trial is stopped: 2 % of the machine's."""
    return max(256 * 2**20, int(psutil.virtual_memory().total) // 50)


def _ignore(phase: Phase) -> None:
    """Listen to nothing."""


@dataclasses.dataclass(kw_only=True)
class _Progress:
    """What is known of a trial while its messages come in."""

    phase: Phase = Phase.START
    hello: dict[str, Any] = dataclasses.field(default_factory=dict)
    stage_times: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    build: dict[str, Any] = dataclasses.field(default_factory=dict)
    windows: dict[str, list[Window]] = dataclasses.field(default_factory=dict)
    notices: list[Notice] = dataclasses.field(default_factory=list)
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    exited: dict[str, Any] | None = None
    low_memory: bool = False
    warden_gone: bool = False

    @property
    def ended(self) -> bool:
        return self.exited is not None or self.warden_gone

    def take(self, message: Mapping[str, Any]) -> None:
        """Take in one message of the child or the warden."""
        match message["event"]:
            case "hello":
                self.hello = dict(message)
            case "tensorflow":
                self.build = dict(message)
            case "stage":
                self.stage_times.setdefault((message["meter"], message["stage"]), message["t"])
                if self.phase is not Phase.MEASURE:
                    measuring = message["stage"] == "measure"
                    self.phase = Phase.MEASURE if measuring else Phase.WARMUP
            case "window":
                self.windows.setdefault(message["meter"], []).append(_window(message))
            case "notice":
                self._take_notice(message)
            case "done":
                self.done, self.phase = dict(message), Phase.EXIT
            case "error":
                self.error, self.phase = dict(message), Phase.EXIT
            case "low_memory":
                self.low_memory = True
            case "not_started":
                self.error = {"kind": "not_started", "text": message["reason"], "where": ""}
            case "exited":
                self.exited = dict(message)
            case "warden_gone":
                self.warden_gone = True

    def _take_notice(self, message: Mapping[str, Any]) -> None:
        value = message.get("value")
        notice = Notice(
            kind=message["kind"],
            where=message["where"],
            text=message["text"],
            knob=message.get("knob"),
            value=None if value is None else str(value),
        )
        if notice not in self.notices:
            self.notices.append(notice)


def _window(message: Mapping[str, Any]) -> Window:
    return Window(
        warmup=message["stage"] == "warmup",
        start_s=message["start_s"],
        duration_s=message["duration_s"],
        steps=message["steps"],
        samples=message["samples"],
    )


def _time_allowed(timing: Timing) -> dict[Phase, float]:
    return {
        Phase.START: timing.start_timeout_s,
        Phase.WARMUP: timing.warmup_timeout_s,
        Phase.MEASURE: timing.measure_timeout_s,
        Phase.EXIT: timing.grace_s,
    }


class ProcessRunner:
    """Runs trials as processes of the user's interpreter.

    ``base_environment`` is the user's environment as it was when the tool started.
    ``memory_floor_bytes``: a trial is stopped when less than this is available on the machine.
    """

    def __init__(
        self, base_environment: Mapping[str, str], *, memory_floor_bytes: int | None = None
    ) -> None:
        self._base = dict(base_environment)
        self._memory_floor = (
            default_memory_floor() if memory_floor_bytes is None else memory_floor_bytes
        )

    def run(
        self, request: TrialRequest, folder: Path, on_phase: PhaseListener = _ignore
    ) -> Outcome:
        """Run one trial in ``folder`` and return how it ended.

        Whatever happens, also an exception such as KeyboardInterrupt, no process of the trial is
        left when this returns.

        Raises:
            UserError: if the folder can't be written or the interpreter can't be started.
        """
        folder = folder.absolute()
        prepare_folder(folder, request)
        started = time.monotonic()
        kills_before = count_oom_kills()
        progress = _Progress()
        pipe = os.pipe()
        with (
            (folder / "events.jsonl").open("w", encoding="utf-8") as record,
            self._start(request, folder, pipe) as process,
        ):
            timed_out = _follow(process, progress, record.write, request.timing, on_phase)
        return _judge(
            progress,
            folder=folder,
            timed_out=timed_out,
            oom_killed=count_oom_kills() > kills_before,
            timing=request.timing,
            elapsed_s=time.monotonic() - started,
            probe=request.kind is Kind.PROBE,
        )

    def _start(self, request: TrialRequest, folder: Path, pipe: tuple[int, int]) -> WardedProcess:
        return WardedProcess(
            child_argv(folder, request, pipe[1]),
            events_pipe=pipe,
            environment=build_environment(request, self._base),
            working_directory=request.working_directory,
            log=folder / "output.log",
            grace_s=request.timing.grace_s,
            memory_floor_bytes=self._memory_floor,
        )


def _follow(
    process: WardedProcess,
    progress: _Progress,
    write: Callable[[str], object],
    timing: Timing,
    on_phase: PhaseListener,
) -> Phase | None:
    """Take in messages until the child is gone; return the phase whose deadline passed, if any."""
    allowed = _time_allowed(timing)
    entered = time.monotonic()

    def take_until(deadline: Callable[[], float]) -> None:
        nonlocal entered
        for message in process.messages(deadline):
            before = progress.phase
            progress.take(message)
            write(json.dumps(message) + "\n")
            if progress.phase is not before:
                entered = time.monotonic()
                on_phase(progress.phase)
            if progress.ended:
                return

    on_phase(progress.phase)
    take_until(lambda: entered + allowed[progress.phase])
    if progress.ended:
        return None
    # in the exit phase the result is in, and the script merely does not come to its end
    timed_out = None if progress.phase is Phase.EXIT else progress.phase
    process.terminate()
    end = time.monotonic() + timing.grace_s + 5
    take_until(lambda: end)
    return timed_out


def _judge(
    progress: _Progress,
    *,
    folder: Path,
    timed_out: Phase | None,
    oom_killed: bool,
    timing: Timing,
    elapsed_s: float,
    probe: bool,
) -> Outcome:
    """Return the outcome. Only a ``done`` event makes a success."""
    exited = progress.exited or {}
    done, error = progress.done, progress.error
    facts = {**progress.hello, **progress.build, **(done or {}).get("facts", {})}
    for key in ("event", "t"):
        facts.pop(key, None)
    result = Outcome(
        status=Status.CRASHED,
        folder=folder,
        phase=timed_out or progress.phase,
        exit_code=exited.get("code"),
        signal=exited.get("signal"),
        error_kind=None if error is None else error["kind"],
        last_lines=last_lines(folder / "output.log"),
        notices=tuple(progress.notices),
        facts=facts,
        elapsed_s=elapsed_s,
    )
    if done is not None and (probe or done["result"] == "measured"):
        return dataclasses.replace(
            result,
            status=Status.MEASURED,
            windows=tuple(progress.windows.get(done.get("meter", ""), ())),
            source=done.get("source"),
            step_phase=done.get("phase"),
            complete=done.get("complete", False),
            warm=done.get("warm", False),
            cost=_cost(progress, done),
        )
    status, reason = _failure(progress, timed_out, oom_killed, timing)
    return dataclasses.replace(result, status=status, reason=reason)


def _cost(progress: _Progress, done: Mapping[str, Any]) -> Cost:
    usage = done.get("usage") or {}
    wall_s, own_s, all_s = (usage.get(k) for k in ("wall_s", "own_cpu_s", "machine_cpu_s"))
    meter = done.get("meter", "")
    first, warm = (progress.stage_times.get((meter, stage)) for stage in ("warmup", "measure"))
    start = progress.hello.get("t")
    cores = others = None
    if wall_s and own_s is not None:
        cores = own_s / wall_s
        others = None if all_s is None else max(0.0, all_s - own_s) / wall_s
    return Cost(
        step_ms=done.get("step_ms"),
        cores_used=cores,
        others_cores=others,
        voluntary_switches=_whole(usage.get("voluntary_switches")),
        involuntary_switches=_whole(usage.get("involuntary_switches")),
        first_step_s=first - start if first is not None and start is not None else None,
        warmup_s=warm - first if warm is not None and first is not None else None,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _failure(
    progress: _Progress, timed_out: Phase | None, oom_killed: bool, timing: Timing
) -> tuple[Status, str]:
    """Return status and reason of a trial without a measurement."""
    exited = progress.exited or {}
    killed = exited.get("signal")
    if progress.low_memory:
        return Status.OUT_OF_MEMORY, "stopped: the machine's memory was nearly used up"
    if progress.done is not None:
        seen = progress.done.get("phases_seen", ())
        others = f"; phases seen: {', '.join(seen)}" if seen else ""
        reason = f"the script ran to its end without a step that could be measured{others}"
        return Status.NO_STEPS, reason
    if progress.error is not None:
        return _reported_failure(progress.error)
    if timed_out is not None:
        limit = _time_allowed(timing)[timed_out]
        return Status.TIMED_OUT, f"timed out after {limit:g} s ({timed_out.value})"
    if killed == _SIGKILL and oom_killed:
        return Status.OUT_OF_MEMORY, "killed by the kernel for want of memory"
    if killed is not None:
        return Status.CRASHED, f"ended by signal {killed} ({_signal_name(killed)})"
    if exited.get("code") == 0:
        return Status.CRASHED, "ended with exit code 0 but without a result (os._exit?)"
    return Status.CRASHED, f"ended with exit code {exited.get('code', '?')}"


def _reported_failure(error: Mapping[str, Any]) -> tuple[Status, str]:
    text, where = error["text"], error["where"]
    match error["kind"]:
        case "memory":
            return Status.OUT_OF_MEMORY, f"{where}: {text}"
        case "not_started":
            return Status.REJECTED, f"the interpreter can't be started: {text}"
        case "syntax" | "script" | "tensorflow":
            return Status.REJECTED, f"{where}: {text}" if where else text
        case _:
            return Status.CRASHED, f"{where}: {text}" if where else text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
