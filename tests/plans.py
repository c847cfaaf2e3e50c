"""Plain values for the tests of stages: facts, noise, trials, and what is known of a study."""

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

from optuna.trial import TrialState

from autotuner.knobs.knob import Configuration, IntRange
from autotuner.options.study_spec import Effort, Objective, StudySpec
from autotuner.stages.known import Known, Worker
from autotuner.statistics.throughput import Throughput, Unit
from autotuner.study.identity import Identity
from autotuner.study.noise import Method, Noise
from autotuner.study.record import Role, TrialRecord
from autotuner.study.space import Space
from autotuner.study.study_facts import StudyFacts
from autotuner.trial.outcome import Status
from tests.fakes import BUILD, machine

DEFAULT: Configuration = {"intra_op": 4, "inter_op": 4}
NOON = datetime(2026, 11, 27, 12)
SPACE = Space(
    domains={"intra_op": IntRange(1, 4), "inter_op": IntRange(1, 4)},
    default=DEFAULT,
    recipe={"intra_op": 4, "inter_op": 1},
)
FACTS = StudyFacts(
    identity=Identity(
        model="m.py",
        model_sha256="",
        arguments=(),
        measure="auto",
        phase=None,
        environment=(),
        machine="h",
        tensorflow="2.21.0",
        python="3.11.7",
        objective="throughput",
        limits="",
    ),
    machine=machine(affinity=4, cores=4),
    build=BUILD,
    space=SPACE,
    unit=Unit.STEPS,
    source="keras",
    phase="fit",
    folder=Path("s"),
    seed=0,
    objective=Objective.THROUGHPUT,
    base=100.0,
)
NOISE = Noise(
    method=Method.DUEL, why="", processes=3, between=0.01, raw=0.02, inside=0.01, slice_s=0.3
)


def point(intra: int, inter: int = 4) -> Configuration:
    """Return a configuration of the space."""
    return {"intra_op": intra, "inter_op": inter}


def trial(
    number: int,
    role: Role,
    configuration: Configuration | None = None,
    gain: float | None = 1.0,
    **fields: object,
) -> TrialRecord:
    """Return a trial that has ended, measured unless the gain is None, a minute after the last."""
    begun = NOON + timedelta(minutes=number)
    measured = gain is not None
    ended = TrialRecord(
        number=number,
        role=role,
        configuration=configuration or {},
        state=TrialState.COMPLETE if measured else TrialState.PRUNED,
        status=Status.MEASURED if measured else Status.CRASHED,
        gain=gain,
        score=None if gain is None else 100.0 * gain,
        throughput=Throughput(
            value=100.0 * (gain or 0.0), low=None, high=None, unit=Unit.STEPS, windows=10
        ),
        elapsed_s=10.0,
        started=begun,
        ended=begun + timedelta(seconds=10),
        machine="h",
        owner="me",
    )
    return dataclasses.replace(ended, **fields)  # type: ignore[arg-type]


def running(
    number: int, role: Role, configuration: Configuration | None = None, **fields: object
) -> TrialRecord:
    """Return a running trial of another worker."""
    begun = trial(number, role, configuration, None, owner="other", machine="other")
    return dataclasses.replace(
        begun,
        state=TrialState.RUNNING,
        status=None,
        ended=None,
        elapsed_s=0.0,
        **fields,  # type: ignore[arg-type]
    )


def pair(
    number: int, gain: float | None, *, first: bool, configuration: Configuration, **fields: object
) -> list[TrialRecord]:
    """Return both sides of a final pair; ``first``: the candidate started first."""
    ours = trial(
        number + (not first),
        Role.FINAL,
        configuration,
        gain,
        pair=number,
        starts_first=first,
        **fields,
    )
    theirs = trial(number + first, Role.FINAL, {}, 1.0, pair=number, starts_first=first, **fields)
    return [ours, theirs] if first else [theirs, ours]


def known(
    *records: TrialRecord,
    elapsed_s: float = 0.0,
    noise: Noise | None = NOISE,
    worker: Worker | None = None,
    **fields: object,
) -> Known:
    """Return what is known after some trials; fields are those of a specification."""
    asked: dict[str, object] = {"effort": Effort.BALANCED, "trials": 12, **fields}
    return Known(
        spec=StudySpec(model=Path("m.py"), **asked),  # type: ignore[arg-type]
        facts=FACTS,
        records=records,
        elapsed_s=elapsed_s,
        noise=noise,
        worker=worker or Worker(key="me", machine="h"),
    )


def preparation() -> list[TrialRecord]:
    """Return the trials before the search."""
    return [
        trial(0, Role.DEFAULT),
        trial(1, Role.CONTROL),
        trial(2, Role.CONTROL),
        trial(3, Role.RECIPE, SPACE.recipe, 1.05),
    ]
