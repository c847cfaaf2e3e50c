"""Common searches, as written by hand, on a recorded surface."""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from scipy.optimize import minimize

from autotuner.knobs.knob import Configuration
from autotuner.study.space import suggest
from autotuner.testing.course import Moment
from autotuner.testing.replay import ReplayRunner, Surface
from autotuner.trial.outcome import Status
from autotuner.trial.request import TrialRequest


class ByHand:
    """Trials as in a script of twenty lines: each the median of five seconds of a cold process."""

    def __init__(self, surface: Surface, seed: int) -> None:
        self.surface = surface
        self.space = surface.space
        self.random = random.Random(f"{seed} by hand")
        self.seed = seed
        self._runner = ReplayRunner(surface, seed)
        self._tried: dict[str, list[float]] = {}
        self._known: dict[str, Configuration] = {}

    def measure(self, configuration: Configuration) -> float | None:
        """Return the throughput of one process; None if it fails."""
        request = TrialRequest(
            script=Path("x"),
            python=Path("x"),
            working_directory=Path(),
            configuration=configuration,
        )
        outcome = self._runner.run(request, Path("x"))
        key = self.surface.key(configuration)
        self._known[key] = configuration
        values = self._tried.setdefault(key, [])
        if outcome.status is not Status.MEASURED:
            return None
        value = median(window.steps / window.duration_s for window in outcome.windows)
        values.append(value)
        return value

    def moment(self) -> Moment | None:
        """Return the current recommendation: the fastest measurement so far."""
        measured = {key: max(values) for key, values in self._tried.items() if values}
        if not measured:
            return None
        best = max(measured, key=lambda key: measured[key])
        return Moment(self._runner.now / 60, len(self._tried), self._known[best])

    def random_point(self) -> Configuration:
        """Return a random configuration."""
        return {name: self.random.choice(d.values()) for name, d in self.space.domains.items()}


def random_search(trials: ByHand) -> Iterator[None]:
    """Try configurations at random, each once."""
    points = list(trials.surface.points.values())
    trials.random.shuffle(points)
    for point in points:
        trials.measure(point)
        yield


def grid_search(trials: ByHand) -> Iterator[None]:
    """Walk through the grid, the last knob fastest."""
    axes = [domain.values() for domain in trials.space.domains.values()]
    seen: set[str] = set()
    for values in itertools.product(*axes):
        point = dict(zip(trials.space.domains, values, strict=True))
        if trials.surface.key(point) not in seen:
            seen.add(trials.surface.key(point))
            trials.measure(point)
            yield


def optuna_tpe(trials: ByHand) -> Iterator[None]:
    """Run Optuna's TPE with its own settings."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=trials.seed)
    )
    while True:
        trial = study.ask()
        value = trials.measure(suggest(trial, trials.space))
        if value is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
        yield


def nelder_mead(trials: ByHand) -> Iterator[None]:
    """Run a simplex of rounded positions from random starts, as TensorTuner does."""
    axes = [domain.values() for domain in trials.space.domains.values()]

    def point(x: Sequence[float]) -> Configuration:
        positions = (
            round(min(max(v, 0.0), 1.0) * (len(a) - 1)) for v, a in zip(x, axes, strict=True)
        )
        values = [axis[k] for axis, k in zip(axes, positions, strict=True)]
        return dict(zip(trials.space.domains, values, strict=True))

    class PauseError(Exception):
        """The evaluations of this call are used up."""

    done: list[float] = []

    def run(start: Any, budget: int) -> None:
        """Replay the simplex's evaluations so far, and make one more."""
        asked = iter(done)

        def loss(x: Any) -> float:
            known = next(asked, None)
            if known is not None:
                return known
            if len(done) >= budget:
                raise PauseError
            value = trials.measure(point(x))
            done.append(0.0 if value is None else -value)
            return done[-1]

        simplex = [start, *(_moved(start, k) for k in range(len(start)))]
        options: Any = {"xatol": 0.05, "fatol": 0.1, "initial_simplex": simplex}
        minimize(loss, start, method="Nelder-Mead", options=options)

    while True:
        start = [trials.random.random() for _ in axes]
        done.clear()
        for budget in itertools.count(1):
            try:
                run(start, budget)
            except PauseError:
                yield
            else:
                yield
                break


def _moved(start: Sequence[float], k: int) -> list[float]:
    """Return a corner of the first simplex: half an axis away, so that the value differs."""
    return [x if at != k else (x + 0.5) % 1.0 for at, x in enumerate(start)]


def hill_climbing(trials: ByHand) -> Iterator[None]:
    """Move to the best neighbour while it is better, from the defaults, then from random points.

    As in Model Analyzer's quick mode: a neighbour differs by one step in one knob.
    """
    here: Configuration = trials.surface.provenance.default
    known: dict[str, float] = {}

    def value(point: Configuration) -> float:
        return known.get(trials.surface.key(point), -math.inf)

    while True:
        while True:
            around = [here, *_neighbours(here, trials)]
            for point in around:
                key = trials.surface.key(point)
                if key not in known:
                    measured = trials.measure(point)
                    known[key] = -math.inf if measured is None else measured
                    yield
            best = max(around, key=value)
            if value(best) <= value(here):
                break
            here = best
        here = trials.random_point()
        if len(known) >= len(trials.surface.truth):
            return


def _neighbours(point: Configuration, trials: ByHand) -> Iterator[Configuration]:
    for name, domain in trials.space.domains.items():
        values = domain.values()
        at = values.index(point[name])
        for k in (at - 1, at + 1):
            if 0 <= k < len(values):
                yield {**point, name: values[k]}


def recipe(trials: ByHand) -> Iterator[None]:
    """Measure the vendor's recipe only."""
    trials.measure(trials.space.recipe)
    yield


def defaults(trials: ByHand) -> Iterator[None]:
    """Measure the defaults only."""
    trials.measure(trials.space.default)
    yield


BY_HAND: Mapping[str, Callable[[ByHand], Iterator[None]]] = {
    "random": random_search,
    "grid": grid_search,
    "Optuna TPE": optuna_tpe,
    "Nelder-Mead": nelder_mead,
    "hill climbing": hill_climbing,
    "recipe": recipe,
    "defaults": defaults,
}
