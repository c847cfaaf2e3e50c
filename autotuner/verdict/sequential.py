"""The sequential test behind a verdict: look after every pair, and yet err at the stated rate.

The data are natural logarithms of the ratios of pairs, each of two fresh processes. After every
pair from the fourth on the t-interval of their mean is looked at. A t-statistic does not depend on
the unknown variance, so one level for all looks can be found beforehand, by simulation, at which
the chance that *any* of them errs on one side is 1 % (the idea is Pocock's, 1977, for known
variances). Within that stands whatever rule ends the run: the budget, or a decision.

Levels: ``python -m benchmarks.calibration --levels``.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence
from statistics import mean, stdev

from scipy.special import stdtrit

FIRST_LOOK = 4
ERROR = 0.01
"""Chance on each side that an interval at any look misses the truth."""

CONFIDENCE = 1 - 2 * ERROR

# level of each look, by the greatest number of pairs; 400,000 simulated series
_LEVELS = {
    4: 0.01000,
    5: 0.00619,
    6: 0.00457,
    8: 0.00322,
    10: 0.00255,
    12: 0.00220,
    16: 0.00175,
    20: 0.00153,
    24: 0.00135,
    30: 0.00118,
    40: 0.00102,
}
_POWER = 0.9


class Verdict(enum.StrEnum):
    """What can be said about a candidate against a reference."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    NO_DIFFERENCE = "NO DIFFERENCE"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """How far a final may go: its greatest number of pairs, and what counts as no difference.

    ``finals``: how many finals the study has had, this one included. Each further one is another
    chance to err, so the error is divided by their number (Bonferroni).
    """

    most_pairs: int
    margin: float
    finals: int = 1

    @property
    def level(self) -> float:
        """The error of each look, on each side."""
        known = [pairs for pairs in _LEVELS if pairs >= self.most_pairs]
        return _LEVELS[min(known, default=max(_LEVELS))] / self.finals


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """A verdict and its numbers.

    ``ratio``: geometric mean over ``pairs``; ``low`` and ``high``: its interval at this look, which
    together with those of all other looks holds the truth in 98 % of runs; None before the first
    look. ``needed``: about how many pairs would decide, where it is inconclusive.
    """

    verdict: Verdict
    ratio: float
    low: float | None
    high: float | None
    pairs: int
    needed: int | None = None

    @property
    def decided(self) -> bool:
        """Whether more pairs are needless."""
        return self.verdict is not Verdict.INCONCLUSIVE


def find(logs: Sequence[float], rule: Rule) -> Finding | None:
    """Return what the log ratios of pairs so far show; None without any.

    NO DIFFERENCE: the interval lies within the margin. FASTER: it lies above 1. SLOWER: below.
    """
    if not logs:
        return None
    n, centre = len(logs), mean(logs)
    if n < FIRST_LOOK:
        return Finding(
            verdict=Verdict.INCONCLUSIVE,
            ratio=math.exp(centre),
            low=None,
            high=None,
            pairs=n,
            needed=FIRST_LOOK,
        )
    spread = stdev(logs)
    half = -float(stdtrit(n - 1, rule.level)) * spread / math.sqrt(n)
    low, high = centre - half, centre + half
    margin = math.log1p(rule.margin)
    if -margin < low and high < margin:
        verdict = Verdict.NO_DIFFERENCE
    elif low > 0:
        verdict = Verdict.FASTER
    elif high < 0:
        verdict = Verdict.SLOWER
    else:
        verdict = Verdict.INCONCLUSIVE
    needed = None
    if verdict is Verdict.INCONCLUSIVE:
        needed = pairs_needed(abs(centre), spread, margin, rule.level)
    return Finding(
        verdict=verdict,
        ratio=math.exp(centre),
        low=math.exp(low),
        high=math.exp(high),
        pairs=n,
        needed=needed,
    )


def pairs_needed(distance: float, spread: float, margin: float, level: float) -> int:
    """Return with about how many pairs a mean so far from 0 would be decided, if it stays there."""
    goal = max(distance, margin - distance)  # to leave 0 behind, or to stay within the margin
    n = FIRST_LOOK
    while n < 10_000 and -float(stdtrit(n - 1, level)) * spread / math.sqrt(n) >= goal:
        n += max(1, n // 20)
    return n


def detectable(spread: float, rule: Rule) -> float:
    """Return which speed-up the rule finds in nine of ten runs: 0.05 is 5 %.

    Args:
        spread: standard deviation of the log ratio of a pair.
        rule: how far the final may go.
    """
    n = rule.most_pairs
    quantiles = -float(stdtrit(n - 1, rule.level)) + float(stdtrit(n - 1, _POWER))
    return math.expm1(quantiles * spread / math.sqrt(n))
