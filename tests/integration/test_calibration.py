"""The error rates that are stated: whole runs of the tool on a simulated machine.

The whole table is made by ``make bench-calibration``; here are the runs that must hold.
"""

import math

import pytest

from autotuner.statistics import sequential
from autotuner.statistics.sequential import (
    Pair,
    StoppingRule,
    Verdict,
    detectable,
    find,
    pairs_needed,
    starts_first,
)
from autotuner.testing.calibration import look_levels, simulate, summary


@pytest.mark.long
def test_a_a_is_hardly_ever_called_faster() -> None:
    """Nothing makes a difference: at most 2 % of 1,000 runs say FASTER."""
    found = summary(simulate("A/A, 5 % normal", 1000))
    assert found["faster"] <= 0.02
    assert found["covered"] >= 0.97
    assert abs(found["error"]) <= 0.01


@pytest.mark.long
def test_ten_per_cent_are_found() -> None:
    """A true 10 % at 5 % noise: found in 90 % of 400 runs, and not exaggerated."""
    found = summary(simulate("10 % better, 5 % normal", 400))
    assert found["faster"] >= 0.90
    assert found["covered"] >= 0.97
    assert abs(found["error_when_faster"]) <= 0.01


@pytest.mark.parametrize(
    "name",
    [
        "A/A, 5 % skewed",
        "A/A, turns with outliers",
        "A/A, autocorrelated turns",
        "A/A, speed swings twofold",
        "A/A, first is 3 % slower",
        "A/A, swings, without duels",
    ],
)
def test_a_a_on_worse_machines(name: str) -> None:
    """Skew, outliers, autocorrelation and drift do not make false winners."""
    found = summary(simulate(name, 100))
    assert found["faster"] <= 0.03
    assert found["covered"] >= 0.94


@pytest.mark.parametrize("name", ["10 % better, outliers", "10 % better, speed swings"])
def test_gains_on_worse_machines(name: str) -> None:
    """A gain is found there too, and not exaggerated."""
    found = summary(simulate(name, 100))
    assert found["faster"] >= 0.90
    assert found["covered"] >= 0.94
    assert abs(found["error_when_faster"]) <= 0.01


def test_the_levels_are_what_the_simulation_gives() -> None:
    """The table in the source, made anew from other random numbers."""
    found = look_levels((4, 8, 16, 30), 200_000, seed=1)
    for most, level in found.items():
        assert StoppingRule(most_pairs=most, margin=0.03).level == pytest.approx(level, rel=0.1)


def alternating(*logs: float) -> list[Pair]:
    """Return pairs in whose second, fourth, ... the candidate starts first."""
    return [Pair(log, first=k % 2 == 1) for k, log in enumerate(logs)]


def test_verdicts() -> None:
    """What an interval says, by where it lies."""
    rule = StoppingRule(most_pairs=8, margin=0.03)

    def verdict(*logs: float) -> Verdict:
        found = find(alternating(*logs), rule)
        assert found is not None
        return found.verdict

    assert verdict(0.2, 0.21, 0.19) is Verdict.INCONCLUSIVE  # too few, however clear
    assert verdict(0.2, 0.21, 0.19, 0.2) is Verdict.FASTER
    assert verdict(-0.2, -0.21, -0.19, -0.2) is Verdict.SLOWER
    assert verdict(0.002, -0.002, 0.001, -0.001) is Verdict.NO_DIFFERENCE
    assert verdict(0.012, 0.013, 0.012, 0.013) is Verdict.NO_DIFFERENCE  # real, and not worth it
    assert verdict(0.2, -0.1, 0.1, 0.15) is Verdict.INCONCLUSIVE
    assert find([], rule) is None
    assert find(alternating(*[0.1] * 4), rule) is not None


def test_the_order_of_starts_does_not_matter() -> None:
    """A process that starts first is 5 % slower: out of the mean, and out of the variance."""
    rule = StoppingRule(most_pairs=8, margin=0.03)
    found = find(alternating(0.10, 0.201, 0.101, 0.20), rule)
    assert found is not None
    assert found.verdict is Verdict.FASTER
    assert math.log(found.ratio) == pytest.approx(0.1505)
    more = find([*alternating(0.10, 0.201, 0.101, 0.20), Pair(9.0, first=True)], rule)
    assert more == found  # a pair whose counterpart is missing waits
    assert starts_first([False])
    assert not starts_first([False, True])


def test_what_it_takes() -> None:
    """More pairs for more noise; a difference in the middle of nowhere needs the margin."""
    level = StoppingRule(most_pairs=16, margin=0.03).level
    few, many = (pairs_needed(0.1, spread, 0.03, level) for spread in (0.05, 0.1))
    assert sequential.FIRST_LOOK <= few < many < 100
    assert pairs_needed(0.0, 0.05, 0.03, level) > few
    rule, larger = StoppingRule(most_pairs=8, margin=0.03), StoppingRule(most_pairs=30, margin=0.03)
    assert 0 < detectable(0.03, larger) < detectable(0.03, rule) < 0.1


def test_every_further_final_is_held_to_more() -> None:
    """Two finals in one study share the error."""
    one, two = (StoppingRule(most_pairs=8, margin=0.03, finals=k) for k in (1, 2))
    assert two.level == one.level / 2
