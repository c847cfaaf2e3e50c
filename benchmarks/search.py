"""``make bench-search``: how soon which search recommends how good a configuration.

Every strategy runs on recorded surfaces (benchmarks/surfaces), on a virtual clock that is charged
with what was recorded. Its regret is what the configuration that it recommends misses of the best
one's true speed. Prints the tables of docs/search.md and draws its pictures.

    python -m benchmarks.search [--seeds 50] [--minutes 12] [--only STRATEGY] [--surface NAME]
"""

import argparse
import dataclasses
import itertools
import logging
import math
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from scipy.optimize import minimize

from autotuner.knobs.knob import Configuration
from autotuner.report.progress import PlainProgress
from autotuner.spec.study_spec import SamplerName, StudySpec
from autotuner.study.opening import create_study
from autotuner.study.record import Role, TrialRecord
from autotuner.study.settings import write_spec
from autotuner.study.space import suggest
from autotuner.study.tuner import Setting, Tuner
from autotuner.trial.outcome import Status
from autotuner.trial.request import TrialRequest
from autotuner.verdict.final import decision_of, run_final
from autotuner.verdict.race import run_race
from autotuner.verdict.sequential import Verdict, rule_of
from benchmarks.replay import ReplayRunner, Surface, load_surface
from benchmarks.surface import FOLDER

MINUTES = (2, 4, 6, 8, 10, 12)
PARTS = (0.05, 0.1, 0.2)


@dataclasses.dataclass(frozen=True)
class Moment:
    """What is recommended at a moment. ``tried``: how many different configurations so far."""

    minutes: float
    tried: int
    recommended: Configuration


@dataclasses.dataclass(frozen=True)
class Trace:
    """One run of a strategy. ``claims``: it says that what it recommends in the end is faster."""

    moments: tuple[Moment, ...]
    claims: bool

    def at_minutes(self, minutes: float) -> Configuration | None:
        """Return what was recommended by then; None if nothing was."""
        return next((m.recommended for m in reversed(self.moments) if m.minutes <= minutes), None)

    def at_tried(self, tried: float) -> Configuration | None:
        """Return what was recommended after so many configurations."""
        return next((m.recommended for m in reversed(self.moments) if m.tried <= tried), None)


class ByHand:
    """Trials as in a script of twenty lines: a cold process each, five seconds, its median."""

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
        """Return what is recommended now: whatever was ever measured to be the fastest."""
        measured = {key: max(values) for key, values in self._tried.items() if values}
        if not measured:
            return None
        best = max(measured, key=lambda key: measured[key])
        return Moment(self._runner.now / 60, len(self._tried), self._known[best])

    def random_point(self) -> Configuration:
        """Return any configuration."""
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
    """Let Optuna's TPE propose, as it comes."""
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
    """Let a simplex of rounded positions crawl, as TensorTuner does, from random starts."""
    axes = [domain.values() for domain in trials.space.domains.values()]

    def point(x: Sequence[float]) -> Configuration:
        positions = (
            round(min(max(v, 0.0), 1.0) * (len(a) - 1)) for v, a in zip(x, axes, strict=True)
        )
        values = [axis[k] for axis, k in zip(axes, positions, strict=True)]
        return dict(zip(trials.space.domains, values, strict=True))

    class PauseError(Exception):
        """Enough evaluations for now."""

    done: list[float] = []

    def run(start: Any, budget: int) -> None:
        """Repeat the simplex's course so far from its results, and do one evaluation more."""
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
    """Return a corner of the first simplex: half of an axis away, so that it is another value."""
    return [x if at != k else (x + 0.5) % 1.0 for at, x in enumerate(start)]


def hill_climbing(trials: ByHand) -> Iterator[None]:
    """Go to the best neighbour while there is a better one, from the defaults, then from anywhere.

    As Model Analyzer's quick mode: a neighbour differs by one step in one knob.
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
    """Take the vendor's recipe."""
    trials.measure(trials.space.recipe)
    yield


def defaults(trials: ByHand) -> Iterator[None]:
    """Leave everything as it is."""
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


def trace_by_hand(name: str, surface: Surface, seed: int, minutes: float) -> Trace:
    """Run a strategy of the usual kind until the time is up."""
    trials = ByHand(surface, seed)
    moments: list[Moment] = []
    for _ in BY_HAND[name](trials):
        moment = trials.moment()
        if moment is not None and moment.minutes > minutes:
            break
        if moment is not None:
            moments.append(moment)
    return Trace(tuple(moments), claims=name != "defaults")


class _Follow(PlainProgress):
    """Says nothing, but asks after each trial what would be recommended now."""

    def __init__(self, ask: Callable[[], None], *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._ask = ask

    def say(self, text: str) -> None:
        """Drop a line."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Ask."""
        self._ask()


def trace_ours(surface: Surface, seed: int, minutes: float, sampler: SamplerName) -> Trace:
    """Run all of the tool, unchanged, with the time as its budget."""
    runner = ReplayRunner(surface, seed)
    moments: list[Moment] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        script = folder / "script.py"
        script.touch()
        storage = optuna.storages.InMemoryStorage()
        spec = StudySpec(
            model=script,
            seed=seed,
            sampler=sampler,
            budget_s=60 * minutes,
            knobs=tuple(surface.provenance.axes),
        )
        study = create_study(storage, "s", spec.objective)
        write_spec(study, spec)

        def ask() -> None:
            records = tuner.records()
            decision = decision_of(study, tuner.facts, records)
            if decision is None:
                return
            searched = {
                surface.key(r.configuration) for r in records if r.role is not Role.IMPORTED
            }
            moments.append(Moment(runner.now / 60, len(searched), decision.best.configuration))

        setting = Setting(
            study=study,
            storage=storage,
            spec=spec,
            machine=surface.machine,
            build=surface.build,
            python=Path(sys.executable),
            folder=folder,
            runner=runner,
            listener=_Follow(ask, rule_of(spec)),
            space=surface.space,
            monotonic=runner.monotonic,
        )
        with Tuner(setting) as tuner:
            tuner.run_first_trials()
            tuner.search()
            run_race(tuner)
            run_final(tuner, study)
            decision = decision_of(study, tuner.facts)
            ask()
    assert decision is not None
    return Trace(tuple(moments), claims=decision.verdict is Verdict.FASTER)


OURS: Mapping[str, SamplerName] = {
    "autotune": SamplerName.GP,
    "autotune, TPE": SamplerName.TPE,
    "autotune, random": SamplerName.RANDOM,
}
STRATEGIES = (*OURS, *BY_HAND)


def trace(name: str, surface: Surface, seed: int, minutes: float) -> Trace:
    """Run a strategy once."""
    if name in OURS:
        return trace_ours(surface, seed, minutes, OURS[name])
    return trace_by_hand(name, surface, seed, minutes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """What all runs of a strategy on a surface come to: regrets of every run, 1 before any."""

    by_minutes: Mapping[float, Sequence[float]]
    by_part: Mapping[float, Sequence[float]]
    final: Sequence[float]
    false_claims: float
    tried: float


def course(surface: Surface, traces: Sequence[Trace], minutes: Sequence[float]) -> Course:
    """Return a strategy's course from its runs."""
    size = len(surface.points)

    def regret(configuration: Configuration | None) -> float:
        return 1.0 if configuration is None else surface.regret(configuration)

    def is_false(one: Trace) -> bool:
        gain = surface.truth[surface.key(one.moments[-1].recommended)]
        return one.claims and gain <= 0

    return Course(
        by_minutes={m: [regret(one.at_minutes(m)) for one in traces] for m in minutes},
        by_part={p: [regret(one.at_tried(p * size)) for one in traces] for p in PARTS},
        final=[regret(one.moments[-1].recommended) for one in traces],
        false_claims=sum(map(is_false, traces)) / len(traces),
        tried=median(one.moments[-1].tried for one in traces),
    )


def _run_block(work: tuple[str, str, float, Sequence[int]]) -> list[Trace]:
    name, surface, minutes, seeds = work
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = load_surface(surface)
    return [trace(name, known, seed, minutes) for seed in seeds]


def run_all(
    names: Sequence[str], surfaces: Sequence[str], seeds: int, minutes: float
) -> Iterator[tuple[str, str, list[Trace]]]:
    """Yield surface, strategy and its runs, on all CPUs."""
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        for surface, name in itertools.product(surfaces, names):
            blocks = [(name, surface, minutes, range(k, seeds, workers)) for k in range(workers)]
            yield surface, name, [one for found in pool.map(_run_block, blocks) for one in found]


def _percent(values: Sequence[float]) -> str:
    """Return median and 90th percentile."""
    middle, late = np.quantile(values, [0.5, 0.9])
    return f"{middle:.1%} / {late:.1%}"


def print_surface(surface: Surface) -> None:
    """Print what a surface is, and how noisy."""
    spread, best = surface.spread, surface.truth[surface.best]
    print(
        f"\n{surface.provenance.name}: {len(surface.points)} configurations, {len(surface.duels)} "
        f"duels, {surface.outliers} left out; the best is {math.exp(best):.2f} times the defaults, "
        f"the recipe {math.exp(surface.truth[surface.key(surface.space.recipe)]):.2f}; "
        f"standard deviation from process to process {spread.process:.1%}, standard error of the "
        f"best {surface.error[surface.best]:.1%}\n"
    )


def print_row(name: str, found: Course) -> None:
    """Print what a strategy came to."""
    within = [np.mean([r <= limit for r in found.final]) for limit in (0.01, 0.02, 0.05)]
    cells = [
        name,
        *(_percent(values) for values in found.by_part.values()),
        *(_percent(values) for values in found.by_minutes.values()),
        *(f"{share:.0%}" for share in within),
        f"{found.false_claims:.0%}",
        f"{found.tried:.0f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Run all of it."""
    recorded = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=MINUTES[-1])
    parser.add_argument("--only", choices=STRATEGIES, action="append")
    parser.add_argument("--surface", choices=recorded, action="append")
    given = parser.parse_args()
    minutes = [m for m in MINUTES if m <= given.minutes]
    columns = [
        "strategy",
        *(f"{part:.0%} of the grid" for part in PARTS),
        *(f"{m} min" for m in minutes),
        *("within 1 %", "2 %", "5 %"),
        "false claims",
        "tried",
    ]
    shown = ""
    for name, strategy, traces in run_all(
        given.only or STRATEGIES, given.surface or recorded, given.seeds, given.minutes
    ):
        surface = load_surface(name)
        if name != shown:
            shown = name
            print_surface(surface)
            print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
        print_row(strategy, course(surface, traces, minutes))


if __name__ == "__main__":
    main()
