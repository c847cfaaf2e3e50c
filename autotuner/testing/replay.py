"""Replay: a recorded surface behind the interface of the real runner, on a virtual clock.

The true speed of each configuration is estimated from all recorded duels at once, as a recording is
noisy, too, and its luckiest configuration is not its best one. A replayed process has that speed
times the deviation of a recorded process, and its turns deviate like those of a recorded duel. The
virtual clock advances by the time that the recorded processes took.
"""

import dataclasses
import itertools
import math
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from autotuner.codec import from_json
from autotuner.knobs.knob import Build, Choice, Configuration, Domain, IntRange
from autotuner.knobs.selection import effective
from autotuner.machine.host import Machine
from autotuner.options.study_spec import Objective
from autotuner.statistics.comparison import compare_rounds, running_medians
from autotuner.statistics.throughput import Unit
from autotuner.study.diagnosis import Bottleneck, Diagnosis
from autotuner.study.record import configuration_key
from autotuner.study.space import Space
from autotuner.testing.simulated import SimulatedRunner
from autotuner.testing.surface import FOLDER, Duel, Provenance, read_duels, read_provenance
from autotuner.trial.fork_server import MOST_PARENTS, values_at_import
from autotuner.trial.outcome import Round, Status, Turn
from autotuner.trial.request import Feed, TrialRequest

_DEFAULT_SPEED = 100.0
_OUTLIER = 4.0
_LEAST_FORKED_S = 0.3
_LEAST_RATE = 1e-9
_BY_KERAS = {"sites": [{"op": "iterate by keras", "where": "recorded"}], "loops": []}


def log_gain(duel: Duel) -> float | None:
    """Return the logarithm of how many times faster a recorded process was than its reference."""
    rounds = [
        Round(reference=_as_turn(reference), candidate=_as_turn(candidate))
        for reference, candidate in zip(duel.reference, duel.candidate, strict=True)
    ]
    found = compare_rounds(rounds, None, Objective.THROUGHPUT, Unit.STEPS)
    return None if found is None else math.log(found.gain)


def log_ratios(duel: Duel) -> list[float]:
    """Return the logarithm of each turn's speed over the reference's turns around it."""
    references = running_medians([math.log(max(rate, _LEAST_RATE)) for rate in duel.reference])
    return [
        math.log(max(rate, _LEAST_RATE)) - fmean(references[k : k + 2])
        for k, rate in enumerate(duel.candidate)
    ]


def _as_turn(rate: float) -> Turn:
    return Turn(
        start_s=0.0, duration_s=1.0, steps=rate, samples=None, step_s=(), cpu_s=1.0, turn_s=1.0
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviations of the parts of a log gain.

    ``one``: of a single knob; ``two``: of a pair of knobs; ``own``: of a configuration as a whole.
    ``resident``: of a resident process; ``process``: of any other process.
    """

    one: float
    two: float
    own: float
    resident: float
    process: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surface:
    """The estimates from a recording: logarithms of gains over the defaults, by configuration key.

    ``truth``: of every measured configuration; ``error``: its standard error. ``deviations``: of
    processes from the truth; ``outliers``: the number of processes that were left out. ``failed``:
    how configurations fail. ``drift``: times (recorded seconds), and the logarithm of the speed of
    the defaults at each.
    """

    provenance: Provenance
    duels: tuple[Duel, ...]
    points: Mapping[str, Configuration]
    truth: Mapping[str, float]
    error: Mapping[str, float]
    spread: Spread
    deviations: Sequence[float]
    outliers: int
    failed: Mapping[str, Status]
    drift: tuple[Sequence[float], Sequence[float]]

    @property
    def best(self) -> str:
        """The key of the configuration with the highest true speed."""
        return max(self.truth, key=lambda key: self.truth[key])

    @property
    def machine(self) -> Machine:
        """The machine of the recording."""
        return from_json(Machine, self.provenance.machine)

    @property
    def build(self) -> Build:
        """The TensorFlow of the recording."""
        return Build(**self.provenance.build)

    @property
    def space(self) -> Space:
        """The grid as a study's space."""
        axes, usual = self.provenance.axes, self.provenance.default
        return Space(
            domains={name: _domain(values) for name, values in axes.items()},
            default=usual,
            recipe={
                name: value if value in axes[name] else usual[name]
                for name, value in self.provenance.recipe.items()
            },
        )

    def key(self, configuration: Configuration) -> str:
        """Return the key of a configuration reduced to the recorded axes."""
        usual = self.provenance.default
        known = {name: value for name, value in configuration.items() if name in usual}
        return configuration_key(effective({**usual, **known}, usual))

    def regret(self, configuration: Configuration) -> float:
        """Return the fraction of the best configuration's speed that is missed: 0.02 is 2 %."""
        return 0.0 - math.expm1(self.truth[self.key(configuration)] - self.truth[self.best])


def _domain(values: Sequence[Any]) -> Domain:
    if isinstance(values[0], int):
        return IntRange(min(values), max(values))
    return Choice(tuple(values))


def load_surface(name: str, folder: Path = FOLDER) -> Surface:
    """Read a recording and estimate the true speeds."""
    path = folder / f"{name}.jsonl"
    provenance, duels = read_provenance(path), tuple(read_duels(path))
    points = {configuration_key(point): point for point in provenance.grid()}
    usual = provenance.default
    # the defaults are a point of the grid, and also in the recording as controls
    keys = [configuration_key(effective({**usual, **d.configuration}, usual)) for d in duels]
    measured = [
        (key, duel.resident, gain)
        for key, duel in zip(keys, duels, strict=True)
        if duel.status is Status.MEASURED and (gain := log_gain(duel)) is not None
    ]
    spread, outliers = fit_spread(measured, points), 0
    # similar configurations give the speed of one that was measured once, with a disturbance
    known = sorted({key for key, _, _ in measured})
    while True:
        mean, error, of_resident = estimate(measured, points, known, spread)
        left = [g - mean[known.index(k)] + of_resident[r] for k, r, g in measured]
        worst = max(range(len(left)), key=lambda k: abs(left[k]))
        if abs(left[worst]) <= _OUTLIER * spread.process:
            break
        # a disturbed process would distort its configuration and all similar ones
        del measured[worst]
        outliers += 1
        spread = fit_spread(measured, points)
    at_default = mean[known.index(configuration_key(usual))]
    truth = {key: mean[at] - at_default for at, key in enumerate(known)}
    scale = spread.process / max(1e-9, float(np.std(left)))
    failed = {
        key: duel.status
        for key, duel in zip(keys, duels, strict=True)
        if duel.status is not Status.MEASURED and key not in truth
    }
    return Surface(
        provenance=provenance,
        duels=duels,
        points={key: point for key, point in points.items() if key in truth or key in failed},
        truth=truth,
        error=dict(zip(known, error, strict=True)),
        spread=spread,
        deviations=[scale * value for value in left],
        outliers=outliers,
        failed=failed,
        drift=_drift(duels, of_resident),
    )


_Measured = Sequence[tuple[str, int, float]]
_Matrix = Any


def fit_spread(measured: _Measured, points: Mapping[str, Configuration]) -> Spread:
    """Return the standard deviations that maximise the likelihood of the measurements.

    A log gain is a sum of independent normal parts: one of each knob's value, one of each pair of
    values, one of the whole configuration, one of the process, less one of the resident. This is an
    analysis of variance with random effects (Searle, Casella & McCulloch, Variance Components).
    """
    keys = [key for key, _, _ in measured]
    parts = [
        *_alike([points[key] for key in keys]),
        _equal(keys),
        _equal([r for _, r, _ in measured]),
    ]
    y = np.array([gain for _, _, gain in measured])

    def surprise(logs: _Matrix) -> float:
        variances = np.exp(2 * np.asarray(logs))
        covariance = sum(v * part for v, part in zip(variances, parts, strict=False))
        covariance = covariance + variances[-1] * np.eye(len(y)) + 1.0  # any mean is likely
        factor = cho_factor(covariance, lower=True)
        return float(y @ cho_solve(factor, y) / 2 + np.log(np.diag(factor[0])).sum())

    start: _Matrix = np.log([0.1, 0.03, 0.02, 0.01, 0.02])
    found = minimize(surprise, start, method="Nelder-Mead", options={"maxiter": 400, "xatol": 0.01})
    return Spread(
        **dict(
            zip(("one", "two", "own", "resident", "process"), np.exp(found.x).tolist(), strict=True)
        )
    )


def estimate(
    measured: _Measured, points: Mapping[str, Configuration], wanted: Sequence[str], spread: Spread
) -> tuple[list[float], list[float], dict[int, float]]:
    """Return the wanted configurations' log gains and standard errors, and residents' log gains.

    These are the best linear predictions (means of the posterior) under the given deviations.
    """
    keys = [key for key, _, _ in measured]
    everything = [points[key] for key in (*keys, *wanted)]
    one, two = _alike(everything)
    own = _equal([*keys, *wanted])
    prior = spread.one**2 * one + spread.two**2 * two + spread.own**2 * own + 1.0
    n = len(keys)
    residents = [resident for _, resident, _ in measured]
    noise = spread.resident**2 * _equal(residents) + spread.process**2 * np.eye(n)
    factor = cho_factor(prior[:n, :n] + noise, lower=True)
    y = np.array([gain for _, _, gain in measured])
    weights = cho_solve(factor, y)
    cross = prior[n:, :n]
    mean = cross @ weights
    variance = np.diag(prior[n:, n:]) - np.einsum("ij,ji->i", cross, cho_solve(factor, cross.T))
    by_resident = {
        number: -(spread.resident**2)
        * float(sum(w for w, r in zip(weights, residents, strict=True) if r == number))
        for number in set(residents)
    }
    return mean.tolist(), np.sqrt(np.maximum(variance, 0.0)).tolist(), by_resident


def _alike(points: Sequence[Configuration]) -> tuple[_Matrix, _Matrix]:
    """Return the fractions of knobs, and of pairs of knobs, in which configurations agree."""
    names = list(points[0])
    equal = [_equal([point[name] for point in points]) for name in names]
    one = sum(equal) / len(names)
    pairs = list(itertools.combinations(equal, 2))
    return one, sum(a * b for a, b in pairs) / len(pairs)


def _equal(labels: Sequence[Any]) -> _Matrix:
    _, numbers = np.unique(np.array([str(label) for label in labels]), return_inverse=True)
    return (numbers[:, None] == numbers[None, :]).astype(float)


def _drift(
    duels: Sequence[Duel], of_resident: Mapping[int, float]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return times, and the log speed of the defaults at each, relative to its median."""
    seen = [
        (duel.at_s, math.log(median(duel.reference)) - of_resident.get(duel.resident, 0.0))
        for duel in duels
        if duel.reference
    ]
    centre = median(level for _, level in seen)
    return [at for at, _ in seen], [level - centre for _, level in seen]


class ReplayRunner(SimulatedRunner):
    """Answers from a surface. ``seed``: of all random choices."""

    def __init__(self, surface: Surface, seed: int) -> None:
        self._surface = surface
        self._parents: OrderedDict[str, None] = OrderedDict()
        self._draw = random.Random(f"{surface.provenance.name} {seed}")
        self._by_key: dict[str, list[Duel]] = {}
        for duel in surface.duels:
            if duel.candidate:
                self._by_key.setdefault(surface.key(duel.configuration), []).append(duel)
        times, _ = surface.drift
        self._offset = self._draw.uniform(0.0, times[-1])
        diagnosis = Diagnosis(
            **{
                **surface.provenance.diagnosis,
                "bottleneck": Bottleneck(surface.provenance.diagnosis["bottleneck"]),
            }
        )
        fed = {}
        if diagnosis.waits is not None:
            fed[Feed.CACHED] = 1 / max(0.01, 1 - diagnosis.waits)
        if diagnosis.overhead is not None:
            fed[Feed.SINGLE] = 1 / max(0.01, diagnosis.overhead)
        super().__init__(
            self._speed_of,
            process=self._process_deviations,
            drift=self._drift_at,
            trial_s=self._takes,
            turn_s=surface.provenance.slice_s,
            fed=fed,
            inspection=_BY_KERAS,
            step_s=surface.provenance.step_s,
            windows=25,  # 5 s
            imported=("tensorflow", "keras"),
            import_s=surface.provenance.saved_s,
            seed=seed,
        )

    def _speed_of(self, configuration: Configuration) -> float | Status:
        key = self._surface.key(configuration)
        if key in self._surface.failed:
            return self._surface.failed[key]
        return _DEFAULT_SPEED * math.exp(self._surface.truth[key])

    def _process_deviations(self, generator: random.Random) -> Iterator[float]:
        while True:
            yield generator.choice(self._surface.deviations)

    def _reference_factor(self) -> float:
        return math.exp(self._draw.gauss(0.0, self._surface.spread.resident))

    def _drift_at(self, now: float) -> float:
        times, levels = self._surface.drift
        return math.exp(float(np.interp((now + self._offset) % times[-1], times, levels)))

    def _takes(self, request: TrialRequest) -> float:
        """Return the time that a process takes besides its measurement, in seconds.

        The first fork of a warm parent waits for its imports, so it is no faster than a start.
        """
        known = self._by_key.get(self._surface.key(request.configuration))
        started_s = self._draw.choice(known).ready_s if known else 10.0
        if request.warm_start is None or not self._has_parent(request.configuration):
            return started_s
        return max(_LEAST_FORKED_S, started_s - self._surface.provenance.saved_s)

    def _has_parent(self, configuration: Configuration) -> bool:
        """Return whether a warm parent can fork this at once, and add one that can from now on."""
        key = configuration_key(values_at_import(configuration))
        known = key in self._parents
        self._parents[key] = None
        self._parents.move_to_end(key)
        if len(self._parents) > MOST_PARENTS:
            self._parents.popitem(last=False)
        return known

    def deviations(self, request: TrialRequest) -> tuple[Iterator[float], Iterator[float]]:
        """Return how both sides' turns deviate: like those of a recorded duel.

        Only the deviation of a candidate's turn from the reference's turns around it matters, so
        the candidate's side carries all of it. The duel's own result is subtracted: it would
        otherwise count for the configuration, and be the same each time.
        """
        duel = self._recorded(request)
        centre = log_gain(duel) or 0.0
        return itertools.repeat(0.0), self._drawn([log - centre for log in log_ratios(duel)])

    def alone(self, request: TrialRequest) -> Iterator[float]:
        """Return how a process's windows deviate from their median, as logarithms."""
        rates = [rate for rate in self._recorded(request).candidate if rate > 0]
        return self._drawn([math.log(rate / median(rates)) for rate in rates])

    def _recorded(self, request: TrialRequest) -> Duel:
        return self._draw.choice(self._by_key[self._surface.key(request.configuration)])

    def _drawn(self, values: Sequence[float]) -> Iterator[float]:
        """Yield all values in a random order, then again in another one.

        So a duel as long as the recorded one has the same result; its error is already part of the
        deviations from process to process.
        """
        while True:
            yield from self._draw.sample(values, len(values))
