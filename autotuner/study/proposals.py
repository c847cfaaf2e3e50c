"""What the search tries next: the configurations for which the model of the knobs expects most.

The model learns from the gains and intervals of all trials, those of races and finals included.
"""

import dataclasses
import functools
import math
import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from autotuner.knobs.knob import Configuration
from autotuner.knobs.selection import effective
from autotuner.statistics.knob_model import KnobModel, Observation, expected_improvement
from autotuner.study.record import Role, TrialRecord, configuration_key
from autotuner.study.space import Space

_MOST_LISTED = 4096
_DRAWN = 1000
_LEADERS = 5
_MOST_OBSERVATIONS = 200
_LEAST_ERROR = 0.003
_FAILED_BY = 0.3
_ELSEWHERE = 0.05  # how much a gain may differ in another study
# least effect of pairs of knobs over that of single knobs, in every second proposal: a search that
# expects effects of single knobs only gets stuck (docs/search.md)
_STRONG = 1.0
_PATIENCE = 4
_WORTH_A_TRIAL = 0.003
_TO_SPARE = 100


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A configuration to try.

    ``expected``: its expected improvement over the best, a log gain; None without a model.
    """

    configuration: Configuration
    expected: float | None


def propose(
    space: Space, records: Sequence[TrialRecord], *, between: float, seed: int
) -> list[Proposal]:
    """Return the most promising configurations, the best first; none if all are running.

    There are more than one, as another worker may take the first one while this one computes.

    Args:
        space: what is searched.
        records: of all trials so far, running ones included.
        between: standard deviation of log gains from process to process.
        seed: of the random choices; the number of trials is added to it.
    """
    draw = random.Random(f"{seed} {len(records)}")
    pending = being_measured(records, space.default)
    observations = observe(records, space.default, between)
    if not observations:
        return [Proposal(_anything(space, draw), None)]
    model = KnobModel(space.domains, space.default, observations)
    if len(records) % 2:
        model = model.expecting_interactions(_STRONG)
    tried = [one.configuration for one in observations]
    means, _ = model.predict(tried)
    leaders = [tried[k] for k in np.argsort(-means)[:_LEADERS]]
    if pending:
        model = model.believing(list(pending.values()))
    points = _listed(space) if space.size <= _MOST_LISTED else _drawn(space, leaders, draw)
    known = _distinct(points, space)
    candidates = [c for key, c in known.items() if key not in pending]
    if not candidates:
        return []
    mean, deviation = model.predict(candidates)
    expected = expected_improvement(mean, deviation, max(0.0, float(means.max())))
    order = np.argsort(-expected, kind="stable")[:_TO_SPARE]
    return [Proposal(candidates[k], float(expected[k])) for k in order]


def has_hope(records: Sequence[TrialRecord]) -> bool:
    """Return whether one of the last few proposals promised enough to be worth a trial."""
    expected = [r.expected for r in records if r.role is Role.SEARCH and r.expected is not None]
    latest = expected[-_PATIENCE:]
    return len(latest) < _PATIENCE or max(latest) >= _WORTH_A_TRIAL


def _distinct(points: Iterable[Configuration], space: Space) -> dict[str, Configuration]:
    """Return the distinct points by key; values without effect are replaced by defaults."""
    found: dict[str, Configuration] = {}
    for point in points:
        known = effective(point, space.default)
        if space.holds(known):
            found.setdefault(configuration_key(known), known)
    return found


def _listed(space: Space) -> Iterator[Configuration]:
    """Yield every configuration of a small space."""
    return (space.point(index) for index in range(space.size))


def _drawn(
    space: Space, leaders: Sequence[Configuration], draw: random.Random
) -> Iterator[Configuration]:
    """Yield some configurations of a large space, and those near the leaders."""
    for _ in range(_DRAWN):
        yield _anything(space, draw)
    for leader in leaders:
        neighbours = list(_neighbours(space, leader))
        yield leader
        yield from neighbours
        for other in neighbours:  # two knobs away
            yield {**other, **_one_value(space, draw)}


def _neighbours(space: Space, point: Configuration) -> Iterator[Configuration]:
    for name, domain in space.domains.items():
        for value in domain.values():
            if value != point.get(name):
                yield {**point, name: value}


def _one_value(space: Space, draw: random.Random) -> Configuration:
    name = draw.choice(list(space.domains))
    return {name: draw.choice(space.domains[name].values())}


def _anything(space: Space, draw: random.Random) -> Configuration:
    return space.point(draw.randrange(space.size))


def being_measured(
    records: Sequence[TrialRecord], default: Configuration
) -> dict[str, Configuration]:
    """Return the configurations that the search is measuring, by key."""
    return {
        record.key(default): effective({**default, **record.configuration}, default)
        for record in records
        if record.role is Role.SEARCH and record.is_running
    }


def observe(
    records: Sequence[TrialRecord], default: Configuration, between: float
) -> list[Observation]:
    """Return one pooled observation for each configuration that has trials.

    A failed configuration counts as clearly slower than the slowest, so the search avoids its
    neighbourhood. If there are very many observations, the best and the latest are kept.
    """
    gains: dict[str, list[tuple[float, float]]] = {}
    failed: dict[str, None] = {}
    configurations: dict[str, Configuration] = {}
    for record in records:
        key = record.key(default)
        configurations.setdefault(key, effective({**default, **record.configuration}, default))
        if record.gain is not None:
            gains.setdefault(key, []).append((math.log(record.gain), _variance(record, between)))
        elif record.status is not None:
            failed[key] = None
    gains.pop(configuration_key(default), None)  # the defaults' gain is 1 by definition
    found = [
        Observation(
            configuration=configurations[key],
            log_gain=sum(g / v for g, v in values) / sum(1 / v for _, v in values),
            variance=1 / sum(1 / v for _, v in values),
        )
        for key, values in gains.items()
    ]
    worst = min((one.log_gain for one in found), default=0.0)
    found += [
        Observation(configuration=configurations[key], log_gain=worst - _FAILED_BY, variance=0.01)
        for key in failed
        if key not in gains and key != configuration_key(default)
    ]
    if len(found) > _MOST_OBSERVATIONS:
        half = _MOST_OBSERVATIONS // 2
        older, latest = found[:-half], found[-half:]
        found = sorted(older, key=lambda one: -one.log_gain)[:half] + latest
    return found


def fitted_model(records: Sequence[TrialRecord], space: Space, between: float) -> KnobModel | None:
    """Return the model of a study's gains; None if only the defaults have ended."""
    observations = observe(records, space.default, between)
    return _fitted(space, tuple(observations)) if observations else None


@functools.lru_cache(maxsize=1)
def _fitted(space: Space, observations: tuple[Observation, ...]) -> KnobModel:
    """Return a fitted model; each task of a race asks for the same one."""
    return KnobModel(space.domains, space.default, observations)


def estimates(records: Sequence[TrialRecord], space: Space, between: float) -> dict[str, float]:
    """Return the model's estimates of the log gains of all configurations that were measured.

    The luckiest trial is rarely the best configuration: the model shrinks an isolated gain towards
    those of the trials with the same values.
    """
    model = fitted_model(records, space, between)
    if model is None:
        return {}
    tried = {record.key(space.default): record for record in records if record.gain is not None}
    points = [{**space.default, **record.configuration} for record in tried.values()]
    means, _ = model.predict(points)
    return dict(zip(tried, means.tolist(), strict=True))


def _variance(record: TrialRecord, between: float) -> float:
    """Return the variance of the error of a trial's log gain."""
    inside = 0.0
    if record.gain_low is not None and record.gain_high is not None and record.gain_low > 0:
        inside = math.log(record.gain_high / record.gain_low) / (2 * 1.96)
    elsewhere = _ELSEWHERE if record.role is Role.IMPORTED else 0.0
    return max(_LEAST_ERROR, between) ** 2 + inside**2 + elsewhere**2
