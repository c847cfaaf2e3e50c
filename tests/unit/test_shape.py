"""Notices about a script, from the course of its steps and windows."""

import dataclasses
import math
import random
from pathlib import Path

from autotuner.statistics.shape import shape_notices
from autotuner.trial.outcome import Outcome, Phase, Status, Window


def outcome(rates: list[float], step_s: list[float]) -> Outcome:
    """Return a measured outcome with a window of 0.2 s for each rate."""
    windows = tuple(
        Window(warmup=False, start_s=0.2 * k, duration_s=0.2, steps=0.2 * rate, samples=None)
        for k, rate in enumerate(rates)
    )
    return Outcome(
        status=Status.MEASURED,
        folder=Path("x"),
        phase=Phase.EXIT,
        windows=windows,
        step_s=tuple(step_s),
        source="function",
        complete=True,
        warm=True,
    )


def kinds(outcome: Outcome) -> list[str]:
    return [notice.kind for notice in shape_notices(outcome)]


def steady(count: int, level: float, seed: int = 0) -> list[float]:
    """Return values that deviate by 2 % from a level."""
    generator = random.Random(seed)
    return [level * math.exp(generator.gauss(0, 0.02)) for _ in range(count)]


def test_a_steady_script_gets_no_notice() -> None:
    assert kinds(outcome(steady(20, 100.0), steady(200, 0.01))) == []


def test_steps_of_two_kinds() -> None:
    """Every third step does four times the work, as where shapes alternate."""
    step_s = [s * (4 if k % 3 == 0 else 1) for k, s in enumerate(steady(200, 0.01))]
    (notice,) = shape_notices(outcome(steady(20, 50.0), step_s))
    assert "steps come in two kinds" in notice.text
    assert "about 4.0 times as long" in notice.text


def test_a_script_that_slows_down() -> None:
    """Each step does a little more than the one before, as with a list that grows."""
    rates = [rate / (1 + 0.02 * k) for k, rate in enumerate(steady(20, 100.0))]
    (notice,) = shape_notices(outcome(rates, steady(200, 0.01)))
    assert "the script gets slower while it runs" in notice.text


def test_a_script_that_speeds_up() -> None:
    """Its warm-up was too short."""
    rates = [rate * (1 + 0.02 * k) for k, rate in enumerate(steady(20, 100.0))]
    (notice,) = shape_notices(outcome(rates, steady(200, 0.01)))
    assert notice.kind == "speeds_up"
    assert "warmup_min" in notice.text


def test_a_busy_neighbour_is_not_a_script_that_slows_down() -> None:
    """A load that comes for a third of the windows, and goes, is no trend."""
    rates = [rate * (0.7 if 7 <= k < 14 else 1) for k, rate in enumerate(steady(20, 100.0))]
    assert kinds(outcome(rates, steady(200, 0.01))) == []


def test_long_pauses_are_named() -> None:
    """Ends of epochs that take a tenth of the time are left out, which is worth a notice."""
    (notice,) = shape_notices(outcome(steady(20, 100.0), [*steady(200, 0.01), 0.15, 0.15]))
    assert notice.kind == "pauses"
    assert notice.text.startswith("2 pauses of over ten times the length of a step")


def test_steps_that_take_no_time() -> None:
    """A script may send anything as the lengths of its steps."""
    assert kinds(outcome(steady(20, 100), [0.0] * 100)) == []


def test_a_script_that_ends_early() -> None:
    """Its windows count; the notice advises a longer run."""
    short = dataclasses.replace(
        outcome(steady(20, 100.0), steady(200, 0.01)), complete=False, warm=False
    )
    (notice,) = shape_notices(short)
    assert "ended before the measurement was complete" in notice.text
    assert "even before its speed was steady" in notice.text


def test_a_script_without_steps_is_timed_as_a_whole() -> None:
    whole = dataclasses.replace(outcome([], []), source="process")
    (notice,) = shape_notices(whole)
    assert "each run is timed as a whole" in notice.text
