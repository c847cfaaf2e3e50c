"""Whole runs of autotune on a simulated machine: how often is its verdict wrong?

Only the processes are simulated: noise check, search, race, final and verdict run unchanged on a
machine whose true speeds are known.
"""

import dataclasses
import logging
import math
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna
from scipy.special import stdtr

from autotuner.knobs.knob import Build, Configuration
from autotuner.machine.host import Machine
from autotuner.options.study_spec import Effort, Pairing, SamplerName, StudySpec
from autotuner.stages.loop import tune
from autotuner.stages.session import Clock, Store, open_session
from autotuner.statistics.sequential import ERROR, FIRST_LOOK, Verdict
from autotuner.study.studies import create_study
from autotuner.study.target import Target
from autotuner.testing.simulated import Deviations, SimulatedRunner, normal

MACHINE = Machine(
    host="simulated",
    cpu_model="simulated",
    affinity_cpus=4,
    physical_cores=4,
    sockets=1,
    quota_cpus=None,
    memory_bytes=2**36,
)
BUILD = Build(tensorflow="2.21.0", keras="3", python="3.11", onednn_default=True, openmp=None)


def skewed(deviation: float) -> Deviations:
    """Return exponential slow-downs: most processes are alike, some are much slower."""

    def draw(generator: random.Random) -> Iterator[float]:
        while True:
            yield -generator.expovariate(1 / deviation)

    return draw


def with_outliers(deviation: float) -> Deviations:
    """Return normal deviations; one in ten is off by a factor of up to four."""

    def draw(generator: random.Random) -> Iterator[float]:
        while True:
            if generator.random() < 0.1:
                yield generator.uniform(-1.4, 1.4)
            else:
                yield generator.gauss(0, deviation)

    return draw


def autocorrelated(deviation: float, r: float) -> Deviations:
    """Return an AR(1) series."""

    def draw(generator: random.Random) -> Iterator[float]:
        value = generator.gauss(0, deviation)
        while True:
            yield value
            value = r * value + math.sqrt(1 - r * r) * generator.gauss(0, deviation)

    return draw


def halving(now: float) -> float:
    """Return a machine whose speed swings by a factor of two within ten minutes."""
    return 2 ** (0.5 * math.sin(2 * math.pi * now / 600))


def flat(configuration: Configuration) -> float:
    """Return the same speed for every configuration."""
    return 100.0


def better_by(gain: float) -> Callable[[Configuration], float]:
    """Return a speed by which configurations with oneDNN off are ``gain`` times faster."""

    def speed(configuration: Configuration) -> float:
        return 100.0 * (gain if configuration.get("onednn") == "0" else 1.0)

    return speed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """A machine and a script.

    ``gain``: the true gain of the best configuration; ``first``: the speed of a process that
    started before another one, as a fraction of its speed alone.
    """

    gain: float
    process: Deviations
    noise: Deviations = normal(0.04)
    drift: Callable[[float], float] = lambda now: 1.0
    pairing: Pairing = Pairing.AUTO
    effort: Effort = Effort.BALANCED
    first: float = 1.0


SCENARIOS = {
    "A/A, 2 % normal": Scenario(gain=1.0, process=normal(0.02)),
    "A/A, 5 % normal": Scenario(gain=1.0, process=normal(0.05)),
    "A/A, 5 % skewed": Scenario(gain=1.0, process=skewed(0.05)),
    "A/A, turns with outliers": Scenario(gain=1.0, process=normal(0.02), noise=with_outliers(0.04)),
    "A/A, autocorrelated turns": Scenario(
        gain=1.0, process=normal(0.02), noise=autocorrelated(0.06, 0.6)
    ),
    "A/A, speed swings twofold": Scenario(gain=1.0, process=normal(0.02), drift=halving),
    "A/A, swings, without duels": Scenario(
        gain=1.0, process=normal(0.02), drift=halving, pairing=Pairing.SEQUENTIAL
    ),
    "A/A, first is 3 % slower": Scenario(gain=1.0, process=normal(0.02), first=0.97),
    "A/A, 5 % normal, fast": Scenario(gain=1.0, process=normal(0.05), effort=Effort.FAST),
    "10 % better, 2 % normal": Scenario(gain=1.1, process=normal(0.02)),
    "10 % better, 5 % normal": Scenario(gain=1.1, process=normal(0.05)),
    "10 % better, 5 % skewed": Scenario(gain=1.1, process=skewed(0.05)),
    "10 % better, outliers": Scenario(gain=1.1, process=normal(0.02), noise=with_outliers(0.04)),
    "10 % better, speed swings": Scenario(gain=1.1, process=normal(0.02), drift=halving),
    "10 % better, 2 %, fast": Scenario(gain=1.1, process=normal(0.02), effort=Effort.FAST),
    "3 % better, 2 % normal": Scenario(gain=1.03, process=normal(0.02)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The result of one run. ``truth``: the true ratio of its finalist."""

    verdict: Verdict
    truth: float
    ratio: float
    low: float
    high: float
    pairs: int


class _Storage(optuna.storages.InMemoryStorage):
    """Optuna's storage in memory, which copies a trial for each of its attributes and values."""

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a running trial."""
        self._get_trial(trial_id).user_attrs[key] = value

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        """Set a value of a running trial."""
        self._get_trial(trial_id).intermediate_values[step] = value


def run_once(scenario: Scenario, seed: int, folder: Path) -> Run:
    """Run all of autotune once on a simulated machine."""
    script = folder / "script.py"
    script.touch()
    speed = better_by(scenario.gain)
    runner = SimulatedRunner(
        speed,
        process=scenario.process,
        noise=scenario.noise,
        drift=scenario.drift,
        first=scenario.first,
        seed=seed,
    )
    storage = _Storage()
    spec = StudySpec(
        model=script,
        seed=seed,
        sampler=SamplerName.RANDOM,
        effort=scenario.effort,
        pairing=scenario.pairing,
        knobs=("threads", "kernels"),
    )
    store = Store(study=create_study(storage, "s", spec.objective), storage=storage)
    target = Target(
        spec=spec, machine=MACHINE, build=BUILD, python=Path(sys.executable), folder=folder
    )
    clock = Clock(monotonic=runner.monotonic)
    with open_session(target, store, runner, lambda event: None, clock=clock) as session:
        decision = tune(session)
    assert decision is not None
    finding = decision.finding
    assert finding is not None
    assert finding.low is not None
    assert finding.high is not None
    best = speed(decision.best.configuration)
    return Run(
        verdict=finding.verdict,
        truth=best / 100.0,
        ratio=finding.ratio,
        low=finding.low,
        high=finding.high,
        pairs=finding.pairs,
    )


def _run_block(name: str, seeds: Sequence[int]) -> list[Run]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        return [run_once(SCENARIOS[name], seed, Path(folder)) for seed in seeds]


def simulate(name: str, runs: int) -> list[Run]:
    """Run a scenario with seeds 0 to ``runs`` - 1, on all CPUs."""
    workers = os.cpu_count() or 1
    blocks = [list(range(k, runs, workers)) for k in range(workers)]
    # a forked process would keep the tracer of a coverage measurement and run at half the speed
    with ProcessPoolExecutor(workers, initializer=sys.settrace, initargs=(None,)) as pool:
        found = pool.map(_run_block, [name] * workers, blocks)
        return [run for block in found for run in block]


def summary(runs: Sequence[Run]) -> dict[str, float]:
    """Return the rates of the verdicts, the coverage, and the mean error of the reported ratio."""
    faster = [run for run in runs if run.verdict is Verdict.FASTER]
    return {
        "faster": len(faster) / len(runs),
        "slower": mean(run.verdict is Verdict.SLOWER for run in runs),
        "no_difference": mean(run.verdict is Verdict.NO_DIFFERENCE for run in runs),
        "inconclusive": mean(run.verdict is Verdict.INCONCLUSIVE for run in runs),
        "right_winner": mean(run.truth > 1 for run in runs),
        "covered": mean(run.low <= run.truth <= run.high for run in runs),
        "error": mean(run.ratio / run.truth - 1 for run in runs),
        "error_when_faster": mean(run.ratio / run.truth - 1 for run in faster) if faster else 0.0,
        "pairs": mean(run.pairs for run in runs),
    }


def look_levels(most: Sequence[int], series: int, seed: int = 20_261_123) -> dict[int, float]:
    """Return the level of each look with which a series of pairs errs at the stated rate.

    Args:
        most: greatest numbers of pairs.
        series: how many series of standard normal values to simulate.
        seed: of the simulation.
    """
    generator = np.random.default_rng(seed)
    last = max(most)
    orders = np.where(np.arange(last) % 2 == 0, 1.0, -1.0)
    least: dict[int, list[Any]] = {m: [] for m in most}
    for _ in range(0, series, 50_000):
        x = generator.standard_normal((min(series, 50_000), last))
        sums, squares, differences = (np.cumsum(y, 1) for y in (x, x * x, x * orders))
        levels = {}
        for n in range(FIRST_LOOK, last + 1, 2):
            means, effects = sums[:, n - 1] / n, differences[:, n - 1] / n
            within = squares[:, n - 1] - n * means**2 - n * effects**2
            levels[n] = stdtr(n - 2, -means / np.sqrt(within / (n - 2) / n))
        for m in most:
            least[m].append(np.min([levels[n] for n in levels if n <= m], 0))
    return {m: float(np.quantile(np.concatenate(least[m]), ERROR)) for m in most}
