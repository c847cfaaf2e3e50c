"""Outcomes from the messages of a trial's processes, without a process."""

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest

from autotuner.options.study_spec import Timing
from autotuner.trial.classify import classify
from autotuner.trial.live_trial import LiveTrial
from autotuner.trial.outcome import Outcome, Phase, Status
from autotuner.trial.progress import TrialProgress
from autotuner.trial.request import Kind, TrialRequest

HELLO = {"event": "hello", "t": 1.0, "python": "3.9.2", "pid": 7, "forked": True}
TENSORFLOW = {
    "event": "tensorflow",
    "t": 2.0,
    "tensorflow": "2.21.0",
    "package": "",
    "onednn": True,
}
DONE = {
    "event": "done",
    "t": 4.0,
    "result": "measured",
    "meter": "keras:fit",
    "source": "keras",
    "phase": "fit",
    "complete": True,
    "warm": True,
    "ticks": 12,
    "usage": {"wall_s": 2.0, "own_cpu_s": 3.0, "machine_cpu_s": 4.0},
    "facts": {
        "keras": "3.15.1",
        "imported": ["tensorflow", "keras"],
        "thread_pools": {"tf_Compute": 2},
        "openmp": None,
        "peak_rss_bytes": 2**28,
        "cpu_s": 3.5,
        "inspection": {"sites": [{"op": "map", "where": "x.py:3"}], "loops": [], "libraries": {}},
    },
}


@dataclasses.dataclass(kw_only=True)
class EndedTrial:
    """The attributes of a LiveTrial that its outcome depends on."""

    progress: TrialProgress
    request: TrialRequest
    folder: Path
    timed_out: Phase | None = None
    oom_killed: bool = False
    started: float = 0.5
    held_s: float = 0.0
    cold_reason: str = ""


def outcome_of(folder: Path, *messages: dict[str, Any], **fields: Any) -> Outcome:
    """Return the outcome of a trial with these messages."""
    progress = TrialProgress()
    for message in messages:
        progress.take(message)
    request = TrialRequest(
        kind=fields.pop("kind", Kind.TRIAL),
        script=Path("x.py"),
        python=Path("python"),
        working_directory=folder,
        timing=Timing(start_timeout_s=3.0),
    )
    trial = EndedTrial(progress=progress, request=request, folder=folder, **fields)
    return classify(cast(LiveTrial, trial))


def exited(code: int | None = 0, signal: int | None = None) -> dict[str, Any]:
    """Return the warden's last message."""
    return {"event": "exited", "code": code, "signal": signal}


def test_a_measurement(tmp_path: Path) -> None:
    """The facts of hello, the import and done are one value; usage gives the cores used."""
    found = outcome_of(tmp_path, HELLO, TENSORFLOW, DONE, exited(), cold_reason="no memory")
    assert found.status is Status.MEASURED
    facts = found.facts
    assert (facts.python, facts.tensorflow, facts.keras) == ("3.9.2", "2.21.0", "3.15.1")
    assert facts.forked
    assert facts.imported == ("tensorflow", "keras")
    assert facts.thread_pools == {"tf_Compute": 2}
    assert facts.inspection is not None
    assert [site.op for site in facts.inspection.sites] == ["map"]
    assert facts.build.onednn_default
    assert found.cost.cores_used == pytest.approx(1.5)
    assert found.cost.others_cores == pytest.approx(0.5)
    assert found.cold_reason == "no memory"


def test_a_probe_needs_no_measurement(tmp_path: Path) -> None:
    """Its done event is a success, and its facts are what the build is made of."""
    done = {"event": "done", "t": 3.0, "result": "no_steps", "facts": {"openmp": "libiomp5.so"}}
    found = outcome_of(tmp_path, HELLO, TENSORFLOW, done, exited(), kind=Kind.PROBE)
    assert found.status is Status.MEASURED
    assert (found.facts.build.tensorflow, found.facts.build.openmp) == ("2.21.0", "libiomp5.so")


ERROR = {"event": "error", "text": "no", "where": "x.py:3"}


@pytest.mark.parametrize(
    ("messages", "fields", "status", "reason"),
    [
        ([exited(0)], {}, Status.CRASHED, "exit code 0 but without a result"),
        ([exited(3)], {}, Status.CRASHED, "ended with exit code 3"),
        ([exited(None, 11)], {}, Status.CRASHED, "signal 11 (SIGSEGV)"),
        ([exited(None, 9)], {"oom_killed": True}, Status.OUT_OF_MEMORY, "by the kernel"),
        ([exited(None, 9)], {}, Status.CRASHED, "signal 9 (SIGKILL)"),
        ([], {"timed_out": Phase.START}, Status.TIMED_OUT, "timed out after 3 s (start)"),
        ([{**ERROR, "kind": "exception"}, exited(1)], {}, Status.CRASHED, "x.py:3: no"),
        ([{**ERROR, "kind": "memory"}, exited(1)], {}, Status.OUT_OF_MEMORY, "x.py:3: no"),
        ([{**ERROR, "kind": "syntax"}, exited(1)], {}, Status.REJECTED, "x.py:3: no"),
        ([{"event": "low_memory"}, exited(None, 9)], {}, Status.OUT_OF_MEMORY, "nearly used up"),
        (
            [{**DONE, "result": "no_steps", "phases_seen": ["fit"]}, exited()],
            {},
            Status.NO_STEPS,
            "phases seen: fit",
        ),
        (
            [
                {"event": "over_limit", "what": "processes_most", "used": 9, "most": 8},
                exited(None, 9),
            ],
            {},
            Status.OVER_LIMIT,
            "--trial-processes allows 8",
        ),
        ([{"event": "warden_gone"}], {}, Status.CRASHED, "ended with exit code ?"),
    ],
)
def test_failures(
    tmp_path: Path,
    messages: list[dict[str, Any]],
    fields: dict[str, Any],
    status: Status,
    reason: str,
) -> None:
    """Without a measurement the outcome has a status and a reason; exit code 0 is no success."""
    found = outcome_of(tmp_path, HELLO, *messages, **fields)
    assert found.status is status
    assert reason in found.reason
