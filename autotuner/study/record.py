"""One trial of a study as a plain value, and how it is stored in Optuna's user attributes.

Three attributes hold everything: ``task`` (what the trial is, written when it is added), ``owner``
and ``result`` (how it ended). Others are flat copies of the values that the dashboard sorts by.
"""

import dataclasses
import enum
import functools
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from optuna.trial import TrialState

from autotuner.codec import from_json, to_json
from autotuner.knobs.knob import Configuration, KnobValue
from autotuner.knobs.selection import effective
from autotuner.statistics.comparison import Comparison
from autotuner.statistics.throughput import Throughput, step_percentiles_ms
from autotuner.study.folders import from_here
from autotuner.trial.outcome import Notice, Outcome, Status

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
REFERENCE = "reference"
_Items = tuple[tuple[str, KnobValue], ...]


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
class Task:
    """A configuration to measure, and its role.

    ``configuration``: None until one of Optuna's samplers has suggested it. ``race_round``: of the
    race, from 0. ``expected``: the improvement over the best that the model expects, a log gain.
    ``starts_first`` and ``against``: of a final pair, whether the configuration starts before the
    other side, and the other side; the empty configuration is TensorFlow's defaults.
    """

    role: Role
    configuration: Configuration | None
    race_round: int | None = None
    expected: float | None = None
    starts_first: bool | None = None
    against: Configuration = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """What a trial is, as it is stored: a task, or one side of a final pair.

    ``configuration``: None until it is known. ``pair``: the number of the final pair, and
    ``starts_first``: whether the candidate starts first in it. ``mark``: the source
    of an imported trial.
    """

    role: Role
    configuration: Configuration | None
    machine: str = ""
    race_round: int | None = None
    expected: float | None = None
    pair: int | None = None
    starts_first: bool | None = None
    mark: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """A trial's measurements, as numbers by which the dashboard sorts. None: not known.

    ``step_ms_*``: percentiles of the lengths of steps. ``cpu_s``: CPU time of the script and its
    workers. ``first_step_s``: from the process's start to the end of its first step.
    """

    step_ms_p50: float | None = None
    step_ms_p95: float | None = None
    step_ms_p99: float | None = None
    cpu_s: float | None = None
    peak_rss_mib: float | None = None
    cores_used: float | None = None
    others_cores: float | None = None
    voluntary_switches: float | None = None
    involuntary_switches: float | None = None
    first_step_s: float | None = None
    warmup_s: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How a trial ended.

    ``throughput``: in this process; None unless it was measured. ``score``: the same by the study's
    objective. ``gain``: over the defaults, corrected by the reference that ran beside it; more than
    1 is better; None where the trial does not count, as after a failure. ``reference``: the score
    of that reference. ``abandoned``: ended early as clearly slower. ``forked``: by a warm parent.
    ``threads``: the number of threads by name. ``last_lines``: of the output of a script that
    failed. ``stages_s``: the parts of its wall time, see :data:`autotuner.trial.outcome.STAGES`;
    ``REFERENCE`` is the time spent on starting the reference.
    """

    status: Status | None = None
    reason: str = ""
    throughput: Throughput | None = None
    folder: str = ""
    elapsed_s: float = 0.0
    score: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    rounds: int | None = None
    reference: float | None = None
    abandoned: bool = False
    forked: bool = False
    notices: tuple[Notice, ...] = ()
    figures: Figures = Figures()
    threads: Mapping[str, int] = dataclasses.field(default_factory=dict)
    last_lines: tuple[str, ...] = ()
    stages_s: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def others_cores(self) -> float | None:
        """CPUs that other processes used meanwhile."""
        return self.figures.others_cores


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord(TrialResult):
    """One trial: what it is, and how it ended.

    ``pair``, ``starts_first`` and ``mark``: see :class:`Side`. ``race_round`` and ``expected``: see
    :class:`Task`. ``machine``: where it ran. ``owner``: the signature of its worker. ``lost``: its
    worker died while it ran. ``undecided``: its configuration is not known yet. ``started`` and
    ``ended``: local times of its machine.
    """

    number: int
    role: Role
    configuration: Configuration
    state: TrialState
    pair: int | None = None
    starts_first: bool | None = None
    started: datetime | None = None
    ended: datetime | None = None
    machine: str = ""
    owner: str = ""
    race_round: int | None = None
    expected: float | None = None
    lost: bool = False
    undecided: bool = False
    mark: str | None = None

    def key(self, default: Configuration) -> str:
        """Return the key of the full configuration: what the trial sets, over the defaults."""
        return _key_over(tuple(self.configuration.items()), tuple(default.items()))

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return not self.state.is_finished()

    @property
    def has_ended(self) -> bool:
        """Whether it ran to its end, measured or failed: not lost, withdrawn or interrupted."""
        return self.state in ENDED

    @property
    def counts(self) -> bool:
        """Whether it has ended or is running."""
        return self.is_running or self.has_ended


def configuration_key(configuration: Configuration) -> str:
    """Return a text that is equal for equal configurations."""
    return _key_of(tuple(configuration.items()))


@functools.lru_cache(maxsize=2**14)
def _key_over(own: _Items, default: _Items) -> str:
    """Return the key of what is set over the defaults; each stage needs it of every trial."""
    return configuration_key(effective({**dict(default), **dict(own)}, dict(default)))


@functools.lru_cache(maxsize=2**14)
def _key_of(items: _Items) -> str:
    """Return the key of a configuration's items."""
    return json.dumps(dict(items), sort_keys=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """The result of assessing an outcome. ``gain`` is None where the trial does not count."""

    throughput: Throughput | None = None
    score: float | None = None
    comparison: Comparison | None = None
    abandoned: bool = False

    @property
    def gain(self) -> float | None:
        """How many times better than the defaults."""
        return None if self.comparison is None else self.comparison.gain


def result_of(
    outcome: Outcome, measurement: Measurement, reference_start_s: float = 0.0
) -> TrialResult:
    """Return the result that a trial stores.

    Args:
        outcome: how it ended.
        measurement: its assessment.
        reference_start_s: the time spent on starting the reference of its duel, in seconds.
    """
    facts, comparison, stages = outcome.facts, measurement.comparison, dict(outcome.cost.stages)
    if stages and reference_start_s:
        stages[REFERENCE] = reference_start_s
    measured = outcome.status is Status.MEASURED
    return TrialResult(
        status=outcome.status,
        reason=outcome.reason,
        throughput=measurement.throughput,
        folder=str(from_here(outcome.folder)),
        elapsed_s=round(outcome.elapsed_s, 3),
        score=measurement.score,
        gain=None if comparison is None else comparison.gain,
        gain_low=None if comparison is None else comparison.low,
        gain_high=None if comparison is None else comparison.high,
        rounds=None if comparison is None else comparison.rounds,
        reference=None if comparison is None else comparison.reference,
        abandoned=measurement.abandoned,
        forked=facts.forked,
        notices=outcome.notices,
        figures=_figures(outcome),
        threads=facts.thread_pools,
        last_lines=() if measured else tuple(outcome.last_lines),
        stages_s={name: round(seconds, 3) for name, seconds in stages.items()},
    )


def _figures(outcome: Outcome) -> Figures:
    cost, peak = outcome.cost, outcome.facts.peak_rss_bytes
    fields: dict[str, float | None] = {
        **{f"step_ms_{name}": value for name, value in step_percentiles_ms(outcome).items()},
        "cpu_s": outcome.facts.cpu_s,
        "peak_rss_mib": peak / 2**20 if peak else None,
        "cores_used": cost.cores_used,
        "others_cores": cost.others_cores,
        "voluntary_switches": cost.voluntary_switches,
        "involuntary_switches": cost.involuntary_switches,
        "first_step_s": cost.first_step_s,
        "warmup_s": cost.warmup_s,
    }
    return Figures(**{k: round(v, 4) for k, v in fields.items() if v is not None})


def side_attributes(side: Side, owner: str = "") -> dict[str, Any]:
    """Return the user attributes of a trial that is about to run."""
    return {"role": side.role.value, "owner": owner, "task": to_json(side)}


def result_attributes(result: TrialResult) -> dict[str, Any]:
    """Return the user attributes of a trial that has ended, with flat copies for the dashboard."""
    flat: dict[str, Any] = {
        "status": result.status,
        "reason": result.reason,
        "gain": result.gain,
        "gain_low": result.gain_low,
        "gain_high": result.gain_high,
        "throughput": None if result.throughput is None else result.throughput.value,
        "elapsed_s": result.elapsed_s,
        **vars(result.figures),
    }
    return {
        **{name: value for name, value in flat.items() if value is not None},
        "result": to_json(result),
    }


class StoredTrial(Protocol):
    """What a record is read from: Optuna's FrozenTrial is one."""

    @property
    def number(self) -> int:
        """Its place in the study, from 0."""

    @property
    def state(self) -> TrialState:
        """Optuna's state."""

    @property
    def user_attrs(self) -> dict[str, Any]:
        """Its user attributes."""

    @property
    def datetime_start(self) -> datetime | None:
        """When it began."""

    @property
    def datetime_complete(self) -> datetime | None:
        """When it ended."""


def read_record(trial: StoredTrial) -> TrialRecord | None:
    """Return a trial's record; None if the trial is not autotune's, or never started."""
    attributes = trial.user_attrs
    if "task" not in attributes:
        return None
    side: Side = from_json(Side, attributes["task"])
    result = TrialResult(reason=attributes.get("reason", ""))
    if "result" in attributes:
        result = from_json(TrialResult, attributes["result"])
    counts = trial.state is TrialState.COMPLETE and result.status is Status.MEASURED
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    fields["gain"] = result.gain if counts else None
    return TrialRecord(
        **fields,
        number=trial.number,
        role=side.role,
        configuration={} if side.configuration is None else side.configuration,
        state=trial.state,
        pair=side.pair,
        starts_first=side.starts_first,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        machine=side.machine,
        owner=attributes.get("owner", ""),
        race_round=side.race_round,
        expected=side.expected,
        lost=attributes.get("lost", False),
        undecided=side.configuration is None,
        mark=side.mark,
    )


def read_records(trials: Iterable[StoredTrial]) -> list[TrialRecord]:
    """Return the records of all trials that autotune has added."""
    return [record for record in map(read_record, trials) if record is not None]
