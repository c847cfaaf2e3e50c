"""Effects of single knobs: right where the model holds, and honest where little is known."""

import math
import random

import pytest
from autotuner.statistics.knob_effects import knob_effects

from autotuner.knobs.knob import Configuration

DEFAULT: Configuration = {"a": 1, "b": "off", "c": "x"}
TRUTH = {("a", 2): 0.2, ("a", 4): -0.1, ("b", "on"): 0.05}


def tried(count: int, noise: float, seed: int) -> list[tuple[Configuration, float]]:
    generator = random.Random(seed)
    found: list[tuple[Configuration, float]] = [(DEFAULT, 0.0)]
    for _ in range(count):
        one: Configuration = {
            "a": generator.choice([1, 2, 4]),
            "b": generator.choice(["off", "on"]),
            "c": generator.choice(["x", "y"]),
        }
        truth = sum(TRUTH.get(pair, 0.0) for pair in one.items())
        found.append((one, truth + generator.gauss(0, noise)))
    return found


def test_known_effects_are_found() -> None:
    """With little noise the effects are as they were made, knob by knob and value by value."""
    effects = knob_effects(tried(200, 0.01, 0), DEFAULT)
    assert [(e.knob, e.value) for e in effects] == [("a", 2), ("a", 4), ("b", "on"), ("c", "y")]
    for effect in effects:
        truth = TRUTH.get((effect.knob, effect.value), 0.0)
        assert math.log(effect.ratio) == pytest.approx(truth, abs=0.01)
        assert effect.low < math.exp(truth) < effect.high
    assert sum(effect.trials for effect in effects[:2]) < 200


def test_intervals_cover() -> None:
    """Of 200 small searches the intervals cover the truth about as often as they say."""
    inside = total = 0
    for seed in range(200):
        for effect in knob_effects(tried(25, 0.05, seed), DEFAULT):
            truth = math.exp(TRUTH.get((effect.knob, effect.value), 0.0))
            inside += effect.low <= truth <= effect.high
            total += 1
    assert 0.90 <= inside / total <= 0.99


def test_noise_alone_has_no_effect() -> None:
    """Where nothing matters, effects shrink to nothing, and their intervals hold 1."""
    generator = random.Random(1)
    only_noise = [(c, generator.gauss(0, 0.05)) for c, _ in tried(40, 0.0, 2)]
    effects = knob_effects(only_noise, DEFAULT)
    assert all(abs(effect.ratio - 1) < 0.04 for effect in effects)
    assert sum(effect.low <= 1 <= effect.high for effect in effects) >= len(effects) - 1


def test_nothing_tried() -> None:
    """Without trials, or with the defaults alone, there is nothing to say."""
    assert knob_effects([], DEFAULT) == []
    assert knob_effects([(DEFAULT, 0.0)], DEFAULT) == []
