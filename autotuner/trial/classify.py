"""From the messages of a trial's processes to its outcome."""

import dataclasses
import signal
import time
from collections.abc import Mapping
from typing import Any

from autotuner.codec import from_json
from autotuner.options.study_spec import Timing
from autotuner.trial.folder import last_lines
from autotuner.trial.live_trial import LiveTrial, time_allowed
from autotuner.trial.outcome import STAGES, Cost, Outcome, Phase, ScriptFacts, Status
from autotuner.trial.progress import TrialProgress
from autotuner.trial.request import Kind

_SIGKILL = 9


def classify(trial: LiveTrial) -> Outcome:
    """Return the outcome of a trial that is over. Only a ``done`` event makes a success."""
    progress, folder = trial.progress, trial.folder
    exited = progress.exited or {}
    done, error = progress.done, progress.error
    reported = {**progress.hello, **progress.build, **(done or {}).get("facts", {})}
    result = Outcome(
        status=Status.CRASHED,
        folder=folder,
        phase=trial.timed_out or progress.phase,
        exit_code=exited.get("code"),
        signal=exited.get("signal"),
        error_kind=None if error is None else error["kind"],
        last_lines=last_lines(folder / "output.log"),
        notices=tuple(progress.notices),
        values=tuple(tuple(values) for values in progress.values),
        facts=from_json(ScriptFacts, reported),
        elapsed_s=time.monotonic() - trial.started,
        cold_reason=trial.cold_reason,
    )
    unmeasured = trial.request.kind is not Kind.TRIAL or trial.request.record_values is not None
    if done is not None and (unmeasured or done["result"] == "measured"):
        meter = done.get("meter", "")
        return dataclasses.replace(
            result,
            status=Status.MEASURED,
            windows=tuple(progress.windows.get(meter, ())),
            step_s=tuple(m.length_s / m.steps for m in progress.marks.get(meter, ()) if m.steps),
            ticks=done.get("ticks", 0),
            source=done.get("source"),
            step_phase=done.get("phase"),
            complete=done.get("complete", False),
            warm=done.get("warm", False),
            cost=_cost(trial, done),
        )
    status, reason = _failure(
        progress, trial.timed_out, oom_killed=trial.oom_killed, timing=trial.request.timing
    )
    return dataclasses.replace(result, status=status, reason=reason)


def _cost(trial: LiveTrial, done: Mapping[str, Any]) -> Cost:
    progress = trial.progress
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
        cores_used=cores,
        others_cores=others,
        voluntary_switches=_whole(usage.get("voluntary_switches")),
        involuntary_switches=_whole(usage.get("involuntary_switches")),
        first_step_s=None if first is None or start is None else first - start - trial.held_s,
        warmup_s=warm - first if warm is not None and first is not None else None,
        stages=_stages(trial, done, first, warm),
    )


def _stages(
    trial: LiveTrial, done: Mapping[str, Any], first: float | None, warm: float | None
) -> dict[str, float]:
    """Return the wall time of each stage; a stage that was not reached took no time.

    Parent and child read the same clock (CLOCK_MONOTONIC).
    """
    progress = trial.progress
    ends = (
        progress.hello.get("t"),
        progress.build.get("t"),
        first,
        warm,
        done["t"],
        time.monotonic(),
    )
    found, before = {}, trial.started
    for name, end in zip(STAGES, ends, strict=True):
        reached = before if end is None else max(before, end)
        found[name] = reached - before
        before = reached
    return found


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _failure(
    progress: TrialProgress, timed_out: Phase | None, *, oom_killed: bool, timing: Timing
) -> tuple[Status, str]:
    """Return status and reason of a trial without a measurement."""
    exited = progress.exited or {}
    killed = exited.get("signal")
    if progress.low_memory:
        return Status.OUT_OF_MEMORY, "stopped: the machine's memory was nearly used up"
    if progress.over_limit is not None:
        return Status.OVER_LIMIT, _over_limit(progress.over_limit)
    if progress.done is not None and progress.error is None:
        seen = progress.done.get("phases_seen", ())
        others = f"; phases seen: {', '.join(seen)}" if seen else ""
        reason = f"the script ended without a step that could be measured{others}"
        return Status.NO_STEPS, reason
    if progress.error is not None:
        return _reported_failure(progress.error)
    if timed_out is not None:
        limit = time_allowed(timing)[timed_out]
        return Status.TIMED_OUT, f"timed out after {limit:g} s ({timed_out.value})"
    if killed == _SIGKILL and oom_killed:
        return Status.OUT_OF_MEMORY, "killed by the kernel: memory ran out"
    if killed is not None:
        return Status.CRASHED, f"ended by signal {killed} ({_signal_name(killed)})"
    if exited.get("code") == 0:
        return (
            Status.CRASHED,
            "ended with exit code 0 but without a result (os._exit? all open files closed?)",
        )
    return Status.CRASHED, f"ended with exit code {exited.get('code', '?')}"


def _over_limit(message: Mapping[str, Any]) -> str:
    """Return the sentence that names the limit a trial exceeded."""
    used, most = message["used"], message["most"]
    if message["what"] == "memory_most":
        used_mib, most_mib = used / 2**20, most / 2**20
        return f"killed: it used {used_mib:,.0f} MiB, --trial-memory allows {most_mib:,.0f} MiB"
    return f"killed: it had {used} processes, --trial-processes allows {most}"


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
