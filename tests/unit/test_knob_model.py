"""The model of the knobs: its predictions, its uncertainty, and the sampler that uses it."""

import json
import math
import random
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest

from autotuner.knobs.knob import Choice, Configuration, Domain, IntRange
from autotuner.statistics.knob_model import (
    KnobEffect,
    KnobModel,
    Observation,
    expected_improvement,
    knob_effects,
)
from autotuner.study.proposals import observe, propose
from autotuner.study.record import TrialRecord, configuration_key
from autotuner.study.space import Space
from tests.fakes import record

DOMAINS: dict[str, Domain] = {
    "intra_op": IntRange(1, 4),
    "inter_op": IntRange(1, 4),
    "map_parallelism": Choice(("as_written", "sequential", "2", "4", "8", "AUTOTUNE")),
    "prefetch_depth": Choice(("as_written", "0", "1", "4", "AUTOTUNE")),
    "onednn": Choice(("0", "1")),
}
DEFAULT: Configuration = {
    "intra_op": 4,
    "inter_op": 4,
    "map_parallelism": "as_written",
    "prefetch_depth": "as_written",
    "onednn": "1",
}
SPACE = Space(domains=DOMAINS, default=DEFAULT, recipe=DEFAULT)
POINTS = [
    dict(zip(DOMAINS, values, strict=True))
    for values in product(*(domain.values() for domain in DOMAINS.values()))
]


def truth(point: Configuration) -> float:
    """Return a log gain: two knobs whose effects add, and a pair that interacts."""
    gain = {1: 0.15, 2: 0.05}.get(int(point["intra_op"]), 0.0)
    gain += {"8": 0.2, "AUTOTUNE": 0.15, "4": 0.1}.get(str(point["map_parallelism"]), 0.0)
    if point["onednn"] == "0":
        gain += 0.1 if point["intra_op"] == 1 else -0.2
    return gain


def seen(points: Sequence[Configuration], noise: float, seed: int) -> list[Observation]:
    generator = random.Random(seed)
    return [
        Observation(
            configuration=point,
            log_gain=truth(point) + generator.gauss(0, noise),
            variance=noise**2,
        )
        for point in points
    ]


def test_the_defaults_gain_nothing() -> None:
    """The gain of the defaults over themselves is 1 by definition, without an error."""
    model = KnobModel(DOMAINS, DEFAULT, seen(random.Random(1).sample(POINTS, 5), 0.02, 1))
    mean, deviation = model.predict([DEFAULT])
    assert abs(mean[0]) < 0.001
    assert deviation[0] < 0.001


def test_it_predicts_what_it_has_not_seen() -> None:
    """From a tenth of the space it predicts the rest to a few per cent, with a valid error."""
    generator = random.Random(2)
    tried = generator.sample(POINTS, len(POINTS) // 10)
    model = KnobModel(DOMAINS, DEFAULT, seen(tried, 0.02, 2))
    mean, deviation = model.predict(POINTS)
    errors = mean - np.array([truth(point) for point in POINTS])
    assert float(np.sqrt(np.mean(errors**2))) < 0.03
    assert 0.8 < float(np.mean(np.abs(errors) < 2 * deviation)) <= 1.0


def test_a_value_outside_its_domain_counts_as_the_last_one() -> None:
    """Under a CPU quota the default number of threads exceeds the domain."""
    model = KnobModel(DOMAINS, {**DEFAULT, "intra_op": 16}, seen(POINTS[:3], 0.02, 3))
    assert np.isfinite(model.predict(POINTS)[0]).all()


def test_expected_improvement() -> None:
    """The formula equals the integral of a normal deviate over a threshold."""
    draws = np.random.default_rng(4).normal(0.1, 0.2, 200_000)
    known = expected_improvement(np.array([0.1]), np.array([0.2]), 0.3)[0]
    assert known == pytest.approx(np.maximum(draws - 0.3, 0).mean(), rel=0.02)
    sure = expected_improvement(np.array([0.5, 0.1]), np.array([0.0, 0.0]), 0.3)
    assert sure.tolist() == pytest.approx([0.2, 0.0])


def test_observations_pool_repeats_and_keep_away_from_failures() -> None:
    """Repeats count by their precision, the defaults are left out, a crash is far below."""
    fast = {**DEFAULT, "intra_op": 1}
    crash = {**DEFAULT, "inter_op": 1}
    records = [
        record(0, {}, 1.0),
        record(1, fast, 1.1, gain_low=1.09, gain_high=1.11),
        record(2, fast, 1.3, gain_low=0.9, gain_high=1.9),
        record(3, crash, None),
    ]
    pooled, failed = observe(records, DEFAULT, between=0.01)
    assert pooled.configuration == fast
    assert math.log(1.1) < pooled.log_gain < math.log(1.12)
    assert pooled.variance < 0.01**2 + 0.01**2
    assert failed.configuration == crash
    assert failed.log_gain < pooled.log_gain - 0.2


def search(
    space: Space, value: Callable[[Configuration], float | None], trials: int
) -> TrialRecord:
    records: list[TrialRecord] = [record(0, {}, 1.0)]
    noise = random.Random(6)
    for number in range(1, trials + 1):
        point = propose(space, records, between=0.01, seed=5)[0].configuration
        assert space.holds(point)
        gain = value(point)
        measured = None if gain is None else math.exp(gain + noise.gauss(0, 0.01))
        records.append(record(number, point, measured))
    return max(records, key=lambda one: one.gain or 0.0)


def test_the_sampler_finds_the_best_of_a_small_space() -> None:
    """25 of 960 points are enough for two additive knobs and a pair, or for a near tie."""
    best = search(SPACE, truth, 25)
    assert truth({**DEFAULT, **best.configuration}) > max(map(truth, POINTS)) - 0.06


def test_the_sampler_searches_a_space_that_is_too_large_to_list() -> None:
    """Its candidates are drawn at random and varied from the leaders."""
    more: dict[str, Domain] = {
        name: Choice(tuple(str(2**k) for k in range(8)))
        for name in ("data_threads", "interleave_parallelism")
    }
    space = Space(
        domains={**DOMAINS, **more},
        default={**DEFAULT, **dict.fromkeys(more, "1")},
        recipe=DEFAULT,
    )
    assert space.size > 50_000
    best = search(space, truth, 30)
    assert truth({**space.default, **best.configuration}) >= max(map(truth, POINTS)) - 0.02


def test_the_sampler_avoids_crashes() -> None:
    """A failing region is visited a few times at most, though it borders on the best."""

    def crashing(point: Configuration) -> float | None:
        return None if point["onednn"] == "0" else truth(point)

    records: list[TrialRecord] = [record(0, {}, 1.0)]
    crashes = 0
    for number in range(1, 31):
        point = propose(SPACE, records, between=0.01, seed=7)[0].configuration
        gain = crashing(point)
        crashes += gain is None
        records.append(record(number, point, None if gain is None else math.exp(gain)))
    assert crashes <= 5


FEW: dict[str, Domain] = {
    "intra_op": IntRange(1, 4),
    "data_autotune": Choice(("as_written", "0")),
    "onednn": Choice(("1", "0")),
}
USUAL: Configuration = {"intra_op": 1, "data_autotune": "as_written", "onednn": "1"}
ALONE = {("intra_op", 2): 0.2, ("intra_op", 4): -0.1, ("data_autotune", "0"): 0.05}
Tried = list[tuple[Configuration, float]]


def tried(count: int, noise: float, seed: int) -> Tried:
    generator = random.Random(seed)
    found: Tried = []
    for _ in range(count):
        one: Configuration = {
            "intra_op": generator.choice([1, 2, 4]),
            "data_autotune": generator.choice(["as_written", "0"]),
            "onednn": generator.choice(["1", "0"]),
        }
        true_gain = sum(ALONE.get(pair, 0.0) for pair in one.items())
        found.append((one, true_gain + generator.gauss(0, noise)))
    return found


def effects(trials: Tried, noise: float) -> list[KnobEffect]:
    """Return the effects by a model of the trials' means, as in the report."""
    gains: dict[str, list[float]] = {}
    for point, log_gain in trials:
        gains.setdefault(configuration_key(point), []).append(log_gain)
    observations = [
        Observation(
            configuration=json.loads(key),
            log_gain=sum(values) / len(values),
            variance=noise**2 / len(values),
        )
        for key, values in gains.items()
        if key != configuration_key(USUAL)
    ]
    model = KnobModel(FEW, USUAL, observations)
    return knob_effects(model, [point for point, _ in trials], USUAL)


def test_known_effects_are_found() -> None:
    """With little noise the effects equal the true ones, knob by knob and value by value."""
    found = effects(tried(200, 0.01, 0), 0.01)
    pairs = [("intra_op", 2), ("intra_op", 4), ("data_autotune", "0"), ("onednn", "0")]
    assert [(e.knob, e.value) for e in found] == pairs
    for effect in found:
        true_gain = ALONE.get((effect.knob, effect.value), 0.0)
        assert math.log(effect.ratio) == pytest.approx(true_gain, abs=0.01)
        assert effect.low < math.exp(true_gain) < effect.high
    assert sum(effect.trials for effect in found[:2]) < 200


def test_intervals_cover() -> None:
    """In 200 small searches the intervals cover the truth about as often as stated."""
    inside = total = 0
    for seed in range(200):
        for effect in effects(tried(25, 0.05, seed), 0.05):
            true_gain = math.exp(ALONE.get((effect.knob, effect.value), 0.0))
            inside += effect.low <= true_gain <= effect.high
            total += 1
    assert 0.90 <= inside / total <= 0.99


def test_noise_alone_has_no_effect() -> None:
    """If no knob matters, effects shrink towards 1, and their intervals contain 1."""
    generator = random.Random(1)
    only_noise = [(point, generator.gauss(0, 0.05)) for point, _ in tried(40, 0.0, 2)]
    found = effects(only_noise, 0.05)
    assert all(abs(effect.ratio - 1) < 0.04 for effect in found)
    assert sum(effect.low <= 1 <= effect.high for effect in found) >= len(found) - 1


def test_without_trials_there_are_no_effects() -> None:
    """There are none without trials, or with trials of the defaults only."""
    model = KnobModel(FEW, USUAL, [])
    assert knob_effects(model, [], USUAL) == []
    assert knob_effects(model, [USUAL], USUAL) == []


def test_a_knob_that_does_nothing_by_itself_has_no_effect() -> None:
    """The number of OpenMP threads has no effect where oneDNN is off by default."""
    domains: dict[str, Domain] = {"onednn": Choice(("0", "1")), "omp_num_threads": IntRange(1, 4)}
    off: Configuration = {"onednn": "0", "omp_num_threads": 4}
    both: Configuration = {"onednn": "1", "omp_num_threads": 2}
    model = KnobModel(
        domains, off, [Observation(configuration=both, log_gain=0.2, variance=0.0001)]
    )
    assert [(e.knob, e.value) for e in knob_effects(model, [both], off)] == [("onednn", "1")]
