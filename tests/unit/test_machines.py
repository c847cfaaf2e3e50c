"""One configuration on several machines: each machine's ratio, and whether they agree."""

import math
import random

import pytest

from autotuner.statistics.machines import covered, disagree, on_machines
from autotuner.statistics.sequential import Pair

MARGIN = 0.03


def pairs(
    machine: str, ratio: float, count: int, *, first: float = 1.0, seed: int = 0
) -> list[Pair]:
    """Return pairs of alternating order around a ratio; ``first``: factor of the first order."""
    generator = random.Random(f"{machine} {seed}")
    return [
        Pair(
            math.log(ratio * (first if k % 2 else 1.0)) + generator.gauss(0, 0.01),
            first=bool(k % 2),
            machine=machine,
        )
        for k in range(count)
    ]


def test_each_machine_has_its_own_ratio() -> None:
    """In the order of their names, with an interval that holds the truth."""
    found = on_machines([*pairs("b", 1.1, 4), *pairs("a", 1.3, 4)])
    assert [(one.machine, one.pairs) for one in found] == [("a", 4), ("b", 4)]
    for one, truth in zip(found, (1.3, 1.1), strict=True):
        assert one.low is not None
        assert one.high is not None
        assert one.low < truth < one.high
        assert one.wins
        assert not one.loses(MARGIN)
    assert on_machines([]) == ()


def test_the_order_of_a_pair_is_out_of_the_mean() -> None:
    """A process that starts first is a tenth slower; both orders count as much."""
    uneven = [*pairs("a", 1.2, 5, first=0.9), *pairs("b", 1.2, 4, first=0.9)]
    for one in on_machines(uneven):
        assert math.log(one.ratio) == pytest.approx(math.log(1.2) + math.log(0.9) / 2, abs=0.02)


def test_an_interval_needs_both_orders_and_a_spread() -> None:
    """One pair has a ratio, no interval."""
    (one,) = on_machines([Pair(0.1, first=True, machine="a")])
    assert (one.low, one.high, one.wins) == (None, None, False)
    assert one.ratio == pytest.approx(math.exp(0.1))
    half = [pair for pair in pairs("a", 1.2, 6) if pair.first]
    (one,) = on_machines(half)
    assert one.low is None


def test_machines_that_disagree() -> None:
    """A gain on one and a loss on another; what may be chance is no loss."""
    gains, loses, even = pairs("a", 1.2, 4), pairs("b", 0.9, 4), pairs("c", 1.0, 4)
    assert disagree(on_machines([*gains, *loses]), MARGIN)
    assert not disagree(on_machines([*gains, *even]), MARGIN)
    assert not disagree(on_machines(gains), MARGIN)
    assert not disagree(on_machines([*loses, *pairs("d", 0.9, 4)]), MARGIN)


def test_a_machine_with_one_pair_is_not_heard() -> None:
    """It may be chance; and it does not count as covered."""
    found = on_machines([*pairs("a", 1.2, 4), *pairs("b", 0.5, 1)])
    assert not disagree(found, MARGIN)
    assert covered(found) == {"a"}
    assert covered(on_machines([*pairs("a", 1.2, 4), *pairs("b", 0.9, 2)])) == {"a", "b"}


def test_intervals_cover_the_truth() -> None:
    """In 95 of 100 finals of three machines with four pairs each."""
    inside = total = 0
    for seed in range(400):
        everything = [pair for name in "abc" for pair in pairs(name, 1.1, 4, seed=seed)]
        for one in on_machines(everything):
            assert one.low is not None
            assert one.high is not None
            total += 1
            inside += one.low < 1.1 < one.high
    assert 0.93 < inside / total < 0.97
