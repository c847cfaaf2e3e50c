"""The sequential test on pairs: verdicts, looks, and how much it takes."""

import math
import random
from itertools import pairwise
from pathlib import Path

import pytest

from autotuner.options.study_spec import Effort, StudySpec
from autotuner.statistics.sequential import (
    FIRST_LOOK,
    Pair,
    StoppingRule,
    Verdict,
    detectable,
    find,
    in_twos,
    pairs_needed,
    rule_of,
    starts_first,
)

RULE = StoppingRule(most_pairs=8, margin=0.03)


def alternating(logs: list[float]) -> list[Pair]:
    return [Pair(log, first=bool(k % 2)) for k, log in enumerate(logs)]


def around(log: float, count: int, spread: float = 0.01) -> list[Pair]:
    """Return pairs whose mean is exactly a log ratio."""
    return alternating([log + spread * (1 if k // 2 % 2 else -1) for k in range(count)])


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.2, Verdict.FASTER),
        (0.8, Verdict.SLOWER),
        (1.0, Verdict.NO_DIFFERENCE),
        (1.01, Verdict.NO_DIFFERENCE),
    ],
)
def test_the_verdict_is_where_the_interval_lies(ratio: float, verdict: Verdict) -> None:
    """Within the margin, above 1, or below."""
    found = find(around(math.log(ratio), 8, spread=0.003), RULE)
    assert found is not None
    assert found.verdict is verdict
    assert found.decided
    assert found.ratio == pytest.approx(ratio)
    assert found.low is not None
    assert found.high is not None
    assert found.low < ratio < found.high
    assert found.needed is None


def test_before_the_first_look_there_is_no_interval() -> None:
    """However clear it is: two values may agree by chance."""
    assert find([], RULE) is None
    for count in range(1, FIRST_LOOK):
        found = find(around(math.log(2), count), RULE)
        assert found is not None
        assert (found.verdict, found.low, found.high) == (Verdict.INCONCLUSIVE, None, None)
        assert (found.pairs, found.needed) == (count, FIRST_LOOK)


def test_a_wide_interval_decides_nothing() -> None:
    """It says how many pairs would."""
    found = find(around(0.05, 8, spread=0.1), RULE)
    assert found is not None
    assert not found.decided
    assert found.needed is not None
    assert found.needed > 8


def test_a_pair_waits_for_its_counterpart() -> None:
    """As many of each order count, the earliest ones."""
    pairs = [Pair(0.1, first=True), Pair(0.2, first=False), Pair(0.3, first=True)]
    assert in_twos(pairs) == ([0.1], [0.2])
    assert in_twos([]) == ([], [])


def test_orders_alternate() -> None:
    """The candidate starts second, first, second, ...; where one is missing it is made up for."""
    orders: list[bool] = []
    for _ in range(8):
        orders.append(starts_first(orders))
    assert all(one != other for one, other in pairwise(orders))
    assert starts_first([False, False, False])


def test_the_effect_of_the_order_is_no_noise() -> None:
    """A process that starts first is a tenth slower: the interval is as narrow as without."""
    even = find(around(0.2, 8), RULE)
    shifted = [Pair(p.log + (0.05 if p.first else -0.05), first=p.first) for p in around(0.2, 8)]
    uneven = find(shifted, RULE)
    assert even is not None
    assert uneven is not None
    assert uneven.ratio == pytest.approx(even.ratio)
    assert (uneven.low, uneven.high) == pytest.approx((even.low, even.high))


def test_more_looks_and_more_finals_share_the_error() -> None:
    """Each is another chance to err."""
    levels = [StoppingRule(most_pairs=n, margin=0.03).level for n in (4, 8, 16, 40, 100)]
    assert levels == sorted(levels, reverse=True)
    assert levels[3] == levels[4]  # beyond the table the last one holds
    third = StoppingRule(most_pairs=8, margin=0.03, finals=3)
    assert third.level == pytest.approx(RULE.level / 3)


def test_the_rule_of_a_study() -> None:
    """Its plan and its margin."""
    spec = StudySpec(model=Path("x.py"), effort=Effort.FAST, margin=0.07)
    rule = rule_of(spec)
    assert (rule.most_pairs, rule.margin) == (spec.plan.most_pairs, 0.07)
    assert rule.finals == 1


def test_what_is_detectable_is_found() -> None:
    """In nine of ten runs, by its definition."""
    gain = detectable(0.05, RULE)
    generator = random.Random(0)
    found = 0
    for _ in range(400):
        logs = [math.log1p(gain) + generator.gauss(0, 0.05) for _ in range(8)]
        finding = find(alternating(logs), RULE)
        assert finding is not None
        found += finding.verdict is Verdict.FASTER
    assert 0.85 < found / 400 < 0.95


def test_pairs_needed_grows_with_the_noise() -> None:
    counts = [pairs_needed(0.05, spread, 0.03, RULE.level) for spread in (0.002, 0.05, 0.1, 0.2)]
    assert counts == sorted(counts)
    assert counts[0] == FIRST_LOOK
    assert all(count % 2 == 0 for count in counts)
