"""What a configuration would gain, predicted from those that were tried.

A Gaussian process over configurations (Rasmussen & Williams, Gaussian Processes for Machine
Learning, 2006) whose covariance is a sum of parts: one of each knob, one of each pair of knobs,
one of the configuration as a whole. Such additive processes (Duvenaud, Nickisch & Rasmussen 2011)
learn a knob's effect from all trials that share its value, whatever else was set in them.
"""

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # its parts are loaded when they are first used, which takes a while

from autotuner.knobs.knob import Configuration, Domain, KnobValue
from autotuner.knobs.selection import effective

_Matrix = Any
_OCTAVES = 2.0
_EXACT = 1e-8
# median and spread of what the logarithms of standard deviations and ratios are before any trial
_KNOB = (np.log(0.2), 1.2)
_PAIRED = (np.log(0.3), 0.7)
_OWN = (np.log(0.015), 0.7)
_NORMAL_QUANTILE = 1.96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """A configuration that was tried; ``variance``: of the error of its log gain."""

    configuration: Configuration = dataclasses.field(hash=False)
    log_gain: float
    variance: float


class KnobModel:
    """A fitted model. The defaults gain nothing over themselves, which it knows.

    Args:
        domains: the knobs that are searched.
        default: their values by default.
        observations: what was tried, at least one.
    """

    def __init__(
        self,
        domains: Mapping[str, Domain],
        default: Configuration,
        observations: Sequence[Observation],
    ) -> None:
        self._tables = {name: _likeness(domain.values()) for name, domain in domains.items()}
        self._positions = {
            name: {value: k for k, value in enumerate(domain.values())}
            for name, domain in domains.items()
        }
        self._default = default
        known = [
            Observation(configuration=default, log_gain=0.0, variance=_EXACT),
            *observations,
        ]
        self._coded = self._code([one.configuration for one in known])
        self._y = np.array([one.log_gain for one in known])
        self._noise = np.array([one.variance for one in known])
        self._likeness = self._alike(self._coded, self._coded)
        self._same = _same(self._coded, self._coded)
        self._use(self._fit())

    def _use(self, parameters: _Matrix) -> None:
        self._parameters = parameters
        self._factor = scipy.linalg.cho_factor(self._covariance(parameters), lower=True)
        self._weights = scipy.linalg.cho_solve(self._factor, self._y)

    def expecting_interactions(self, paired: float) -> "KnobModel":
        """Return a model in which pairs of knobs matter at least so much.

        A few trials that happen to add up make the fit too sure that knobs do not interact.

        Args:
            paired: what pairs do, as a part of what single knobs do.
        """
        parameters = self._parameters.copy()
        parameters[-2] = max(parameters[-2], np.log(paired))
        other = copy.copy(self)
        other._use(parameters)
        return other

    def believing(self, configurations: Sequence[Configuration]) -> "KnobModel":
        """Return a model for which configurations that are being measured come out as predicted.

        So what is like them promises less, and several workers look in several places (a kriging
        believer: Ginsbourger, Le Riche & Carraro 2010). The fit stays.
        """
        means, _ = self.predict(configurations)
        other = copy.copy(self)
        other._coded = np.vstack([self._coded, self._code(configurations)])
        other._y = np.concatenate([self._y, means])
        other._noise = np.concatenate([self._noise, np.full(len(configurations), _EXACT)])
        other._likeness = self._alike(other._coded, other._coded)
        other._same = _same(other._coded, other._coded)
        other._use(self._parameters)
        return other

    def _code(self, configurations: Sequence[Configuration]) -> _Matrix:
        """Return the positions of values in their domains, one row a configuration.

        A default that lies outside of its domain, as under a CPU quota, counts as the last value.
        """
        rows = []
        for one in configurations:
            full = {**self._default, **one}
            rows.append([at.get(full[name], len(at) - 1) for name, at in self._positions.items()])
        return np.array(rows, dtype=int)

    def _alike(self, a: _Matrix, b: _Matrix) -> list[_Matrix]:
        """Return for each knob how alike the values of all pairs are, from 0 to 1."""
        tables = self._tables.values()
        return [table[np.ix_(a[:, j], b[:, j])] for j, table in enumerate(tables)]

    def _fit(self) -> _Matrix:
        """Return the logarithms of the parameters that are likeliest after the observations."""
        prior = np.array([_KNOB] * len(self._tables) + [_PAIRED, _OWN])

        def surprise(parameters: _Matrix) -> float:
            factor = scipy.linalg.cho_factor(
                self._covariance(parameters), lower=True, check_finite=False
            )
            fit = self._y @ scipy.linalg.cho_solve(factor, self._y, check_finite=False) / 2
            away = (parameters - prior[:, 0]) / prior[:, 1]
            return float(fit + np.log(np.diag(factor[0])).sum() + away @ away / 2)

        found = scipy.optimize.minimize(
            surprise, prior[:, 0], method="L-BFGS-B", options={"maxiter": 30, "ftol": 1e-4}
        )
        return found.x

    def _covariance(self, parameters: _Matrix) -> _Matrix:
        prior = _prior(parameters, self._likeness, self._same)
        return prior + np.diag(self._noise + _EXACT)

    def predict(self, configurations: Sequence[Configuration]) -> tuple[_Matrix, _Matrix]:
        """Return the means and standard deviations of the log gains of configurations."""
        coded = self._code(configurations)
        cross = _prior(self._parameters, self._alike(coded, self._coded), _same(coded, self._coded))
        mean = cross @ self._weights
        # each part is as large as it can be where a configuration meets itself
        d = len(self._tables)
        ones = [np.ones(1)] * d
        top = float(_prior(self._parameters, ones, np.ones(1))[0])
        learnt = np.einsum("ij,ji->i", cross, scipy.linalg.cho_solve(self._factor, cross.T))
        return mean, np.sqrt(np.maximum(top - learnt, 0.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnobEffect:
    """The gain of the defaults with one knob at another value, as the model predicts it.

    ``ratio``: more than 1 is better; ``low`` and ``high``: 95 % credible interval. ``trials``: the
    number of trials with that value.
    """

    knob: str
    value: KnobValue
    ratio: float
    low: float
    high: float
    trials: int


def knob_effects(
    model: KnobModel, tried: Sequence[Configuration], default: Configuration
) -> list[KnobEffect]:
    """Return the effects of all values that were tried, by knob and then by value.

    Values that do nothing unless another knob is changed as well are left out.

    Args:
        model: fitted to the trials.
        tried: the configurations of the trials, as often as they were run.
        default: the configuration to which effects are relative.
    """
    counts = Counter(pair for one in tried for pair in one.items() if default[pair[0]] != pair[1])
    alone = {pair: {**default, pair[0]: pair[1]} for pair in sorted(counts, key=_order(default))}
    alone = {pair: point for pair, point in alone.items() if effective(point, default) == point}
    if not alone:
        return []
    means, deviations = model.predict(list(alone.values()))
    half = _NORMAL_QUANTILE * deviations
    return [
        KnobEffect(
            knob=name,
            value=value,
            ratio=float(np.exp(means[k])),
            low=float(np.exp(means[k] - half[k])),
            high=float(np.exp(means[k] + half[k])),
            trials=counts[name, value],
        )
        for k, (name, value) in enumerate(alone)
    ]


def _order(default: Configuration) -> Callable[[tuple[str, KnobValue]], tuple[int, bool, Any]]:
    """Return the key of the order of effects: knobs as in ``default``, numbers before texts."""
    positions = {name: k for k, name in enumerate(default)}
    return lambda pair: (positions[pair[0]], isinstance(pair[1], str), pair[1])


def _likeness(values: Sequence[KnobValue]) -> _Matrix:
    """Return how alike a knob's values are: numbers by their ratio, names only themselves."""
    count = len(values)
    table = np.eye(count)
    numbers = [int(value) if str(value).isdecimal() else None for value in values]
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if a is not None and b is not None:
                octaves = abs(np.log2((a + 0.5) / (b + 0.5)))
                table[i, j] = np.exp(-octaves / _OCTAVES)
    return table


def _same(a: _Matrix, b: _Matrix) -> _Matrix:
    return (a[:, None, :] == b[None, :, :]).all(axis=2).astype(float)


def _prior(parameters: _Matrix, likeness: Sequence[_Matrix], same: _Matrix) -> _Matrix:
    """Return the covariance of log gains before any trial.

    The sum over pairs is half of the square of the sum less the sum of the squares.
    """
    *knobs, paired, own = np.exp(parameters)
    scaled = [s * k for s, k in zip(knobs, likeness, strict=True)]
    one = sum(s * part for s, part in zip(knobs, scaled, strict=True))
    total = sum(scaled)
    two = (total * total - sum(part * part for part in scaled)) / 2
    return one + paired**2 * two + own**2 * same


def expected_improvement(mean: _Matrix, deviation: _Matrix, best: float) -> _Matrix:
    """Return by how much each candidate can be expected to beat ``best`` (Mockus 1978)."""
    safe = np.maximum(deviation, 1e-12)
    z = (mean - best) / safe
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return (mean - best) * scipy.special.ndtr(z) + safe * density
