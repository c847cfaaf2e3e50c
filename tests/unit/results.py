"""Results made of plain records, for tests of exports and reports: no study and no process."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from autotuner.knobs.knob import Build, Configuration
from autotuner.knobs.liveness import KnobState, Liveness
from autotuner.machine.host import Machine
from autotuner.options.study_spec import Objective, StudySpec
from autotuner.statistics.sequential import Finding, Verdict
from autotuner.statistics.throughput import Throughput, Unit
from autotuner.study.diagnosis import Bottleneck, Diagnosis
from autotuner.study.facts import StudyFacts
from autotuner.study.identity import identify
from autotuner.study.noise import Method, Noise
from autotuner.study.record import Role, TrialRecord
from autotuner.study.space import make_space
from autotuner.trial.outcome import Status
from autotuner.verdict.decision import Candidate, Decision
from autotuner.verdict.result import Result, decision_of

HERE = Machine(
    host="h",
    cpu_model="cpu",
    affinity_cpus=4,
    physical_cores=4,
    sockets=1,
    quota_cpus=None,
    memory_bytes=2**33,
)
BUILD = Build(tensorflow="2.21.0", keras="3", python="3.11.7", onednn_default=True, openmp=None)
MOMENT = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
FASTER = Finding(verdict=Verdict.FASTER, ratio=1.25, low=1.2, high=1.3, pairs=5)
FAST: Configuration = {"intra_op": 2, "onednn": "0"}
QUIET = Noise(
    method=Method.DUEL,
    why="",
    processes=3,
    between=0.01,
    raw=0.05,
    inside=0.02,
    slice_s=1.0,
)


def a_record(
    number: int,
    configuration: Configuration,
    gain: float | None,
    *,
    role: Role = Role.SEARCH,
    **fields: Any,
) -> TrialRecord:
    """Return a trial that was measured, or that crashed if it has no gain."""
    throughput = None
    if gain is not None:
        throughput = Throughput(value=100 * gain, low=None, high=None, unit=Unit.STEPS, windows=5)
    values: dict[str, Any] = {
        "state": TrialState.PRUNED if gain is None else TrialState.COMPLETE,
        "status": Status.CRASHED if gain is None else Status.MEASURED,
        "reason": "boom" if gain is None else "",
        "throughput": throughput,
        "folder": "",
        "elapsed_s": 10.0,
        "score": None if gain is None else 100 * gain,
        **fields,
    }
    return TrialRecord(number=number, role=role, configuration=configuration, gain=gain, **values)


def pairs_of(configuration: Configuration, gains: Sequence[float], first: int) -> list[TrialRecord]:
    """Return final pairs, in turns of who starts first, numbered from ``first`` on."""
    records = []
    for pair, gain in enumerate(gains):
        ours, theirs = first + 2 * pair, first + 2 * pair + 1
        if pair % 2 == 0:
            ours, theirs = theirs, ours
        final: dict[str, Any] = {"role": Role.FINAL, "pair": pair, "machine": "h"}
        sides = [a_record(ours, configuration, gain, **final), a_record(theirs, {}, 1.0, **final)]
        records += sorted(sides, key=lambda one: one.number)
    return records


A_SEARCH = (
    a_record(0, {}, 1.0, role=Role.DEFAULT),
    a_record(1, {"intra_op": 1}, 0.9, role=Role.RECIPE, others_cores=0.02),
    a_record(2, FAST, 1.26, gain_low=1.2, gain_high=1.32),
    a_record(3, {"onednn": "0"}, 1.1, others_cores=0.8),
    a_record(4, {"inter_op": 1}, None),
)
A_FINAL = tuple(pairs_of(FAST, [1.24, 1.26, 1.25, 1.27, 1.24, 1.26, 1.25, 1.26], 5))


def a_result(folder: Path, **fields: Any) -> Result:
    """Return the result of a study whose best configuration is ``FAST``, proven to be faster.

    Args:
        folder: where its script is.
        fields: of the result, where they are to be others. ``decision`` follows from the records
            unless it is given.
    """
    script = folder / "train.py"
    script.touch()
    spec = StudySpec(model=script)
    facts = StudyFacts(
        identity=identify(spec, HERE, BUILD),
        machine=HERE,
        build=BUILD,
        space=make_space(("intra_op", "inter_op", "onednn"), machine=HERE, build=BUILD),
        unit=Unit.STEPS,
        source="keras",
        phase="fit",
        folder=folder,
        seed=0,
        objective=Objective.THROUGHPUT,
        base=100.0,
        liveness=(
            Liveness(
                knob="intra_op", state=KnobState.LIVE, reason="sizes the pool", evidence="4 threads"
            ),
        ),
    )
    values: dict[str, Any] = {
        "study": "s",
        "spec": spec,
        "facts": facts,
        "records": (*A_SEARCH, *A_FINAL),
        "noise": QUIET,
        "diagnosis": Diagnosis(
            bottleneck=Bottleneck.COMPUTE,
            waits=0.1,
            overhead=0.2,
            compute=0.7,
            sentence="compute-bound",
        ),
        "warm_check": None,
        "tuning_s": 600.0,
        "as_of": MOMENT,
        **fields,
    }
    if "decision" not in values:
        values["decision"] = decision_of(
            values["records"],
            facts=values["facts"],
            spec=values["spec"],
            noise=values["noise"],
            numerics=None,
        )
    return Result(**values)


def a_decision(best: Configuration, default: Configuration, **fields: Any) -> Decision:
    """Return a decision for a configuration that is proven to be faster."""
    values: dict[str, Any] = {"recipe": None, "own": None, "finding": FASTER, "configurations": 20}
    return Decision(
        best=Candidate(configuration=best, gain=1.3, trials=2),
        default=Candidate(configuration=default, gain=1.0, trials=1),
        **{**values, **fields},
    )


def decided(result: Result, **fields: Any) -> Result:
    """Return a result with another decision."""
    return dataclasses.replace(result, decision=dataclasses.replace(result.decision, **fields))
