"""A sampler that proposes where the model of the knobs expects most, as one of Optuna's samplers.

It learns from the trials' gains with their intervals, also from those of races and finals.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from autotuner.knobs.knob import Configuration, KnobValue
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
# what pairs of knobs do at least, as a part of what single ones do, for every second proposal: a
# search that believes in single knobs alone gets stuck (docs/search.md)
_STRONG = 1.0
_PATIENCE = 4
_WORTH_A_TRIAL = 0.003
_TO_SPARE = 100


class ModelSampler(BaseSampler):
    """Proposes the configuration with the greatest expected improvement.

    Args:
        space: what is searched.
        records: returns the study's trials so far.
        between: standard deviation of log gains from process to process.
        seed: of what is drawn.
    """

    def __init__(
        self,
        space: Space,
        records: Callable[[], Sequence[TrialRecord]],
        *,
        between: float,
        seed: int,
    ) -> None:
        self._space = space
        self._records = records
        self._between = between
        self._random = random.Random(seed)
        self._independent = RandomSampler(seed=seed)
        self._hopes: list[float] = []

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._space.distributions()

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return the most promising configuration."""
        return dict((self.proposals() or [self._anything()])[0])

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return any value: asked for only where a trial has parameters of its own."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def proposals(self) -> list[Configuration]:
        """Return the most promising configurations, the best first; none if all are being measured.

        Another worker may take the first one while this one computes, so there are some to spare.
        """
        records = self._records()
        pending = being_measured(records, self._space.default)
        observations = observe(records, self._space.default, self._between)
        if not observations:
            return [self._anything()]
        model = KnobModel(self._space.domains, self._space.default, observations)
        if len(records) % 2:
            model.expect_interactions(_STRONG)
        tried = [one.configuration for one in observations]
        means, _ = model.predict(tried)
        leaders = [tried[k] for k in np.argsort(-means)[:_LEADERS]]
        if pending:
            model.believe(list(pending.values()))
        candidates = [c for c in self._candidates(leaders) if configuration_key(c) not in pending]
        if not candidates:
            return []
        mean, deviation = model.predict(candidates)
        hoped = expected_improvement(mean, deviation, max(0.0, float(means.max())))
        self._hopes.append(float(hoped.max()))
        return [candidates[k] for k in np.argsort(-hoped, kind="stable")[:_TO_SPARE]]

    @property
    def has_hope(self) -> bool:
        """Whether one of the last few proposals promised more than is worth a trial."""
        latest = self._hopes[-_PATIENCE:]
        return len(latest) < _PATIENCE or max(latest) >= _WORTH_A_TRIAL

    def _candidates(self, leaders: Sequence[Configuration]) -> Iterator[Configuration]:
        """Yield every configuration of a small space; of a large one some, and the leaders' kin."""
        found: dict[str, Configuration] = {}
        points = self._listed() if self._space.size <= _MOST_LISTED else self._drawn(leaders)
        for point in points:
            known = effective(point, self._space.default)
            if self._space.holds(known):
                found.setdefault(configuration_key(known), known)
        yield from found.values()

    def _listed(self) -> Iterator[Configuration]:
        for index in range(self._space.size):
            yield self._space.point(index)

    def _drawn(self, leaders: Sequence[Configuration]) -> Iterator[Configuration]:
        for _ in range(_DRAWN):
            yield self._anything()
        for leader in leaders:
            neighbours = list(self._neighbours(leader))
            yield leader
            yield from neighbours
            for other in neighbours:  # two knobs further
                yield {**other, **self._one_value()}

    def _neighbours(self, point: Configuration) -> Iterator[Configuration]:
        for name, domain in self._space.domains.items():
            for value in domain.values():
                if value != point.get(name):
                    yield {**point, name: value}

    def _one_value(self) -> Mapping[str, KnobValue]:
        name = self._random.choice(list(self._space.domains))
        return {name: self._random.choice(self._space.domains[name].values())}

    def _anything(self) -> Configuration:
        return self._space.point(self._random.randrange(self._space.size))


def being_measured(
    records: Sequence[TrialRecord], default: Configuration
) -> dict[str, Configuration]:
    """Return the configurations that are being measured, by their keys."""
    return {
        record.key(default): effective({**default, **record.configuration}, default)
        for record in records
        if record.is_running and record.role is Role.SEARCH
    }


def observe(
    records: Sequence[TrialRecord], default: Configuration, between: float
) -> list[Observation]:
    """Return what the trials say of each configuration, pooled by what ran in them.

    One that failed counts as clearly slower than the slowest: the search stays away from there. Of
    very many the best and the latest are taken.
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
    gains.pop(configuration_key(default), None)  # it gains nothing over itself, by definition
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
    """Return the model of a study's gains; None if no configuration but the defaults has ended."""
    observations = observe(records, space.default, between)
    return KnobModel(space.domains, space.default, observations) if observations else None


def estimates(records: Sequence[TrialRecord], space: Space, between: float) -> dict[str, float]:
    """Return what the model takes for the log gains of all configurations that were measured.

    The luckiest trial is rarely the best configuration: a gain that nothing else speaks for is
    brought in towards what the trials with the same values show.
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
