"""What a study and its trials hold, read from and written to Optuna's user attributes.

User attributes are flat where the dashboard is to sort by them and JSON elsewhere.
"""

import dataclasses
import enum
import json
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autotuner.codec import from_json
from autotuner.knobs.knob import Build, Choice, Configuration, Domain, IntRange
from autotuner.knobs.liveness import Evidence, EvidenceScope, Liveness
from autotuner.knobs.selection import effective
from autotuner.machine.host import Machine
from autotuner.options.study_spec import Objective
from autotuner.statistics.comparison import Comparison, Metric
from autotuner.statistics.throughput import (
    Throughput,
    Unit,
    score_unit,
    step_percentiles_ms,
)
from autotuner.study.bulk import AnyTrial, read_attribute
from autotuner.study.diagnosis import Bottleneck, Diagnosis
from autotuner.study.identity import Identity, identity_from
from autotuner.study.noise import Noise, noise_as_json, noise_from_json
from autotuner.study.space import Space
from autotuner.trial.outcome import Notice, Outcome, Status

SCHEMA = 3
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_MARK = "autotune_schema"
_SUMMARY = "summary"
REFERENCE = "reference"


class Role(enum.StrEnum):
    """Why a trial was run."""

    DEFAULT = "default"
    RECIPE = "recipe"
    SCRIPT = "script"
    CONTROL = "control"
    SEARCH = "search"
    RACE = "race"
    FINAL = "final"
    IMPORTED = "imported"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What holds for all trials of a study.

    ``source`` and ``phase``: what its step is. ``base``: the score of the first trial of the
    defaults, over which gains are turned back into scores. ``evidence`` and ``liveness``: what the
    inspection has shown, and which knobs can hence act. ``imported``: what a warm parent would have
    to import.
    """

    identity: Identity
    machine: Machine
    build: Build
    space: Space
    unit: Unit
    source: str
    phase: str
    folder: Path
    seed: int
    objective: Objective
    base: float
    notices: tuple[Notice, ...] = ()
    imported: tuple[str, ...] = ()
    evidence: Evidence = Evidence(scope=EvidenceScope.NOTHING)
    liveness: tuple[Liveness, ...] = ()

    @property
    def metric(self) -> Metric:
        """What trials are measured by."""
        return Metric(objective=self.objective, unit=self.unit)

    @property
    def score_unit(self) -> str:
        """The unit of the study's values."""
        return score_unit(self.objective, self.unit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a trial took, as flat numbers by which the dashboard sorts. None: not known.

    ``step_ms_*``: percentiles of the lengths of steps. ``cpu_s``: of the script and its workers.
    """

    step_ms_p50: float | None = None
    step_ms_p95: float | None = None
    step_ms_p99: float | None = None
    cpu_s: float | None = None
    peak_rss_mib: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial. ``pair`` numbers final pairs.

    ``throughput``: as it was in this process; None unless it was measured. ``score``: the same by
    the study's objective. ``gain``: over the defaults, corrected by the reference that ran beside
    it; more than 1 is better. None where the trial does not count, as after a failure.
    ``reference``: the score of that reference. ``abandoned``: ended early as clearly slower.
    ``forked``: by a warm parent. ``machine``: where it ran, ``owner``: the signature of the worker
    that ran it. ``race_round``: of the race, from 0. ``lost``: its worker died meanwhile.
    ``undecided``: its configuration is not known yet.
    ``last_lines``: of the script's output, where it failed. ``stages_s``: what its wall time went
    into, see :data:`autotuner.trial.outcome.STAGES`; with ``REFERENCE``, what it took to start the
    other side of its duel, where it did. ``started`` and ``ended``: local
    times of its machine.
    """

    number: int
    role: Role
    configuration: Configuration
    state: TrialState
    status: Status | None
    reason: str
    throughput: Throughput | None
    folder: str
    elapsed_s: float
    score: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    reference: float | None = None
    abandoned: bool = False
    forked: bool = False
    pair: int | None = None
    notices: tuple[Notice, ...] = ()
    others_cores: float | None = None
    figures: Figures = Figures()
    last_lines: tuple[str, ...] = ()
    stages_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    machine: str = ""
    owner: str = ""
    race_round: int | None = None
    lost: bool = False
    undecided: bool = False

    def key(self, default: Configuration) -> str:
        """Return the key of what ran: what the trial sets, over the default."""
        return configuration_key(effective({**default, **self.configuration}, default))

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return not self.state.is_finished()

    @property
    def counts(self) -> bool:
        """Whether it has been run, or is: what a dead worker or an interruption left does not."""
        return self.is_running or self.state in ENDED


_FIGURES = [field.name for field in dataclasses.fields(Figures)]


def configuration_key(configuration: Configuration) -> str:
    """Return a text that is equal for equal configurations."""
    return json.dumps(dict(configuration), sort_keys=True)


def _domain_as_json(domain: Domain) -> list[Any]:
    if isinstance(domain, IntRange):
        return ["int", domain.low, domain.high]
    return ["choice", *domain.options]


def _domain_from_json(stored: list[Any]) -> Domain:
    kind, *rest = stored
    return IntRange(*rest) if kind == "int" else Choice(tuple(rest))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Who began a study: with what, where, with which TensorFlow."""

    identity: Identity
    machine: Machine
    build: Build


def write_origin(study: optuna.Study, origin: Origin) -> None:
    """Keep in a new study what it is made of, so that workers can tell whether they fit."""
    study.set_user_attr("identity", dataclasses.asdict(origin.identity))
    study.set_user_attr("machine", dataclasses.asdict(origin.machine))
    study.set_user_attr("build", dataclasses.asdict(origin.build))


def read_origin(study: optuna.Study) -> Origin | None:
    """Return what a study is made of; None while it is only being made, or not by us."""
    attributes = study.user_attrs
    if "build" not in attributes:
        return None
    return Origin(
        identity=identity_from(attributes["identity"]),
        machine=from_json(Machine, attributes["machine"]),
        build=Build(**attributes["build"]),
    )


def write_study_facts(study: optuna.Study, facts: StudyFacts) -> None:
    """Keep the facts in the study."""
    space = facts.space
    origin = Origin(identity=facts.identity, machine=facts.machine, build=facts.build)
    write_origin(study, origin)
    domains = {name: _domain_as_json(domain) for name, domain in space.domains.items()}
    study.set_user_attr("space", domains)
    study.set_user_attr("default", dict(space.default))
    study.set_user_attr("recipe", dict(space.recipe))
    study.set_user_attr("unit", facts.unit.value)
    study.set_user_attr("objective", facts.objective.value)
    study.set_user_attr("base", facts.base)
    study.set_user_attr("step", [facts.source, facts.phase])
    study.set_user_attr("folder", str(facts.folder))
    study.set_user_attr("seed", facts.seed)
    study.set_user_attr("notices", [dataclasses.asdict(notice) for notice in facts.notices])
    study.set_user_attr("imported", list(facts.imported))
    study.set_user_attr("evidence", dataclasses.asdict(facts.evidence))
    study.set_user_attr("liveness", [dataclasses.asdict(one) for one in facts.liveness])
    study.set_user_attr(_MARK, SCHEMA)  # last: a study without it was not finished being made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([f"{facts.objective.value} ({facts.score_unit})"])


def read_study_facts(study: optuna.Study) -> StudyFacts | None:
    """Return a study's facts; None if it was not made by us or was not finished being made."""
    attributes = study.user_attrs
    if attributes.get(_MARK) != SCHEMA:
        return None
    source, phase = attributes["step"]
    return StudyFacts(
        identity=identity_from(attributes["identity"]),
        machine=from_json(Machine, attributes["machine"]),
        build=Build(**attributes["build"]),
        space=Space(
            domains={n: _domain_from_json(d) for n, d in attributes["space"].items()},
            default=attributes["default"],
            recipe=attributes["recipe"],
        ),
        unit=Unit(attributes["unit"]),
        source=source,
        phase=phase,
        folder=Path(attributes["folder"]),
        seed=attributes["seed"],
        objective=Objective(attributes["objective"]),
        base=attributes["base"],
        notices=tuple(Notice(**notice) for notice in attributes["notices"]),
        imported=tuple(attributes.get("imported", ())),
        evidence=from_json(Evidence, attributes["evidence"]),
        liveness=from_json(tuple[Liveness, ...], attributes["liveness"]),
    )


def write_diagnosis(study: optuna.Study, diagnosis: Diagnosis) -> None:
    """Keep what holds a step up in the study."""
    study.set_user_attr("diagnosis", dataclasses.asdict(diagnosis))


def read_diagnosis(study: optuna.Study) -> Diagnosis | None:
    """Return what holds a step up; None if that was not looked at."""
    stored = study.user_attrs.get("diagnosis")
    if stored is None:
        return None
    return Diagnosis(**{**stored, "bottleneck": Bottleneck(stored["bottleneck"])})


def write_summary(study: optuna.Study, text: str, trials: int) -> None:
    """Note the result down, for lists of studies; ``trials``: how many there were then."""
    study.set_user_attr(_SUMMARY, [text, trials])


def read_summary(study: optuna.Study) -> tuple[str, int] | None:
    """Return the result as it was noted down, and how many trials there were then."""
    noted = study.user_attrs.get(_SUMMARY)
    return None if noted is None else (noted[0], noted[1])


def read_summaries(storage: BaseStorage) -> dict[str, str]:
    """Return the results of all studies as they were noted down, by the studies' names."""
    return {name: noted[0] for name, noted in read_attribute(storage, _SUMMARY).items()}


def write_noise(study: optuna.Study, noise: Noise) -> None:
    """Keep the noise check's result in the study."""
    study.set_user_attr("noise", noise_as_json(noise))


def read_noise(study: optuna.Study) -> Noise | None:
    """Return the noise check's result; None if it has not been made."""
    return noise_from(study.user_attrs)


def noise_from(attributes: Mapping[str, Any]) -> Noise | None:
    """Return the noise check's result among a study's attributes."""
    stored = attributes.get("noise")
    return None if stored is None else noise_from_json(stored)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a trial's outcome comes to. ``gain`` is None where the trial does not count."""

    throughput: Throughput | None = None
    score: float | None = None
    comparison: Comparison | None = None
    abandoned: bool = False

    @property
    def gain(self) -> float | None:
        """How many times better than the defaults."""
        return None if self.comparison is None else self.comparison.gain


def outcome_attributes(
    outcome: Outcome, measurement: Measurement, reference_s: float = 0.0
) -> dict[str, Any]:
    """Return what a trial keeps of how it ended, as user attributes.

    Args:
        outcome: how it ended.
        measurement: what that comes to.
        reference_s: what it took to start the other side of its duel.
    """
    throughput, comparison, facts = measurement.throughput, measurement.comparison, outcome.facts
    found: dict[str, Any] = {
        "status": outcome.status.value,
        "reason": outcome.reason,
        "folder": str(outcome.folder),
        "elapsed_s": round(outcome.elapsed_s, 3),
        **_flat_cost(outcome),
    }
    if outcome.cost.stages:
        stages = {**outcome.cost.stages, **({REFERENCE: reference_s} if reference_s else {})}
        found["stages_s"] = {name: round(seconds, 3) for name, seconds in stages.items()}
    if outcome.notices:
        found["notices"] = [dataclasses.asdict(notice) for notice in outcome.notices]
    if facts.peak_rss_bytes:
        found["peak_rss_mib"] = round(facts.peak_rss_bytes / 2**20, 1)
    if facts.thread_pools:
        found["threads"] = dict(facts.thread_pools)
    if outcome.status is not Status.MEASURED and outcome.last_lines:
        found["last_lines"] = list(outcome.last_lines)
    if measurement.score is not None:
        found["score"] = measurement.score
    if comparison is not None:
        found["gain"] = comparison.gain
        found["gain_low"] = comparison.low
        found["gain_high"] = comparison.high
        found["rounds"] = comparison.rounds
        found["reference"] = comparison.reference
    if measurement.abandoned:
        found["abandoned"] = True
    if facts.forked:
        found["forked"] = True
    if throughput is not None:
        found["throughput"] = throughput.value
        found["throughput_low"] = throughput.low
        found["throughput_high"] = throughput.high
        found["unit"] = throughput.unit.value
        found["windows"] = throughput.windows
    return found


def _flat_cost(outcome: Outcome) -> dict[str, float]:
    """Return what a measurement took as flat numbers, by which the dashboard can sort."""
    cost = outcome.cost
    fields: dict[str, float | None] = {
        **{f"step_ms_{name}": value for name, value in step_percentiles_ms(outcome).items()},
        "cpu_s": outcome.facts.cpu_s,
        "cores_used": cost.cores_used,
        "others_cores": cost.others_cores,
        "voluntary_switches": cost.voluntary_switches,
        "involuntary_switches": cost.involuntary_switches,
        "first_step_s": cost.first_step_s,
        "warmup_s": cost.warmup_s,
    }
    return {name: round(value, 4) for name, value in fields.items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Something to measure.

    ``configuration``: None while a sampler has not said which. ``pair``: the number of the final
    pair; ``race_round``: of the race.
    """

    role: Role
    configuration: Configuration | None
    pair: int | None = None
    race_round: int | None = None


def start_attributes(task: Task, *, owner: str, machine: str) -> dict[str, Any]:
    """Return what a trial keeps of what it is about to do, as user attributes."""
    found: dict[str, Any] = {
        "role": task.role.value,
        "owner": owner,
        "machine": machine,
    }
    if task.configuration is not None:
        found["configuration"] = dict(task.configuration)
    numbers = {"pair": task.pair, "race_round": task.race_round}
    return {**found, **{name: number for name, number in numbers.items() if number is not None}}


def _host_of(signature: str) -> str:
    """Return where a trial ran, of which an earlier version has kept only who ran it."""
    try:
        return str(json.loads(signature)["host"])
    except (ValueError, KeyError, TypeError):
        return ""


def read_record(trial: AnyTrial) -> TrialRecord | None:
    """Return a trial's record, or None for a trial that is not ours or did not get to start."""
    attributes = trial.user_attrs
    if "role" not in attributes:
        return None
    throughput = None
    if "throughput" in attributes:
        throughput = Throughput(
            value=attributes["throughput"],
            low=attributes["throughput_low"],
            high=attributes["throughput_high"],
            unit=Unit(attributes["unit"]),
            windows=attributes["windows"],
        )
    status = attributes.get("status")
    # a failure may be COMPLETE, too: with a penalty, for samplers that learn from nothing else
    counts = trial.state is TrialState.COMPLETE and status == Status.MEASURED.value
    return TrialRecord(
        number=trial.number,
        role=Role(attributes["role"]),
        configuration=attributes.get("configuration", {}),
        state=trial.state,
        status=None if status is None else Status(status),
        reason=attributes.get("reason", ""),
        throughput=throughput,
        folder=attributes.get("folder", ""),
        elapsed_s=attributes.get("elapsed_s", 0.0),
        score=attributes.get("score"),
        gain=attributes.get("gain") if counts else None,
        gain_low=attributes.get("gain_low"),
        gain_high=attributes.get("gain_high"),
        reference=attributes.get("reference"),
        abandoned=attributes.get("abandoned", False),
        forked=attributes.get("forked", False),
        pair=attributes.get("pair"),
        notices=tuple(Notice(**notice) for notice in attributes.get("notices", ())),
        others_cores=attributes.get("others_cores"),
        figures=Figures(**{name: attributes.get(name) for name in _FIGURES}),
        last_lines=tuple(attributes.get("last_lines", ())),
        stages_s=attributes.get("stages_s", {}),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        machine=attributes.get("machine") or _host_of(attributes.get("owner", "")),
        owner=attributes.get("owner", ""),
        race_round=attributes.get("race_round"),
        lost=attributes.get("lost", False),
        undecided="configuration" not in attributes,
    )


def read_records(trials: Iterable[AnyTrial]) -> list[TrialRecord]:
    """Return the records of all trials that are ours."""
    return [record for record in map(read_record, trials) if record is not None]
