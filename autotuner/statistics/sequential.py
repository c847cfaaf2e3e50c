"""The sequential test behind a verdict: repeated looks at the data with a known error rate.

The data are natural logarithms of the ratios of pairs, each of two fresh processes. In a duel the
process that was started first may be a few per cent slower, whatever its configuration (3 % with
mlp_train here). So the candidate starts first in every second pair, and the test takes pairs in
twos: the effect cancels in the mean of both orders and in the variance within each order.

After every two pairs, from the fourth on, the test looks at the t-interval of the mean. The
t-statistic does not depend on the unknown variance, so simulation gives one level for all looks
with which the chance that *any* look errs on one side is 1 % (the idea is Pocock's, 1977, for known
variances). This bound holds whatever ends the run, budget or decision.

Levels: ``python -m benchmarks.calibration --levels``.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence
from statistics import fmean

import scipy

from autotuner.options.study_spec import StudySpec

FIRST_LOOK = 4
ERROR = 0.01
"""The chance on each side that the interval of any look misses the truth."""

CONFIDENCE = 1 - 2 * ERROR

# level of each look, by the greatest number of pairs; from 400,000 simulated series
_LEVELS = {
    4: 0.01000,
    6: 0.00541,
    8: 0.00388,
    10: 0.00311,
    12: 0.00267,
    16: 0.00216,
    20: 0.00189,
    24: 0.00169,
    30: 0.00148,
    40: 0.00129,
}
_POWER = 0.9


class Verdict(enum.StrEnum):
    """The test's answer about a candidate and a reference."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    NO_DIFFERENCE = "NO DIFFERENCE"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclasses.dataclass(frozen=True)
class Pair:
    """The log ratio of a candidate and a reference; ``first``: the candidate started first."""

    log: float
    first: bool
    machine: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """The greatest number of pairs of a final, and the margin that counts as no difference.

    ``finals``: the number of the study's finals, this one included. Each further final is another
    chance to err, so the error is divided by their number (Bonferroni).
    """

    most_pairs: int
    margin: float
    finals: int = 1

    @property
    def level(self) -> float:
        """The error level of each look, on each side."""
        known = [pairs for pairs in _LEVELS if pairs >= self.most_pairs]
        return _LEVELS[min(known, default=max(_LEVELS))] / self.finals


def rule_of(spec: StudySpec) -> StoppingRule:
    """Return the stopping rule of a study's final."""
    return StoppingRule(most_pairs=spec.plan.most_pairs, margin=spec.margin)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """A verdict and its numbers.

    ``ratio``: geometric mean over ``pairs``, equally many of each order. ``low`` and ``high``: its
    interval at this look; the intervals of all looks together hold the truth in 98 % of runs. None
    before the first look. ``needed``: about how many pairs would decide an inconclusive final.
    """

    verdict: Verdict
    ratio: float
    low: float | None
    high: float | None
    pairs: int
    needed: int | None = None

    @property
    def decided(self) -> bool:
        """Whether no more pairs are needed."""
        return self.verdict is not Verdict.INCONCLUSIVE


def starts_first(orders: Sequence[bool]) -> bool:
    """Return whether the candidate starts first in the next pair, given the earlier pairs."""
    return sum(orders) < len(orders) / 2


def in_twos(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """Return the log ratios of both orders, equally many of each; a surplus one is left out."""
    firsts = [pair.log for pair in pairs if pair.first]
    seconds = [pair.log for pair in pairs if not pair.first]
    count = min(len(firsts), len(seconds))
    return firsts[:count], seconds[:count]


def find(pairs: Sequence[Pair], rule: StoppingRule) -> Finding | None:
    """Return the finding from the pairs so far; None without pairs.

    NO DIFFERENCE: the interval lies within the margin. FASTER: it lies above 1. SLOWER: below.
    """
    if not pairs:
        return None
    orders = in_twos(pairs)
    logs = [*orders[0], *orders[1]]
    n = len(logs)
    if n < FIRST_LOOK:
        return Finding(
            verdict=Verdict.INCONCLUSIVE,
            ratio=math.exp(fmean(pair.log for pair in pairs)),
            low=None,
            high=None,
            pairs=len(pairs),
            needed=FIRST_LOOK,
        )
    centre = fmean(logs)
    squares = sum((log - fmean(order)) ** 2 for order in orders for log in order)
    spread = math.sqrt(squares / (n - 2))
    half = -float(scipy.special.stdtrit(n - 2, rule.level)) * spread / math.sqrt(n)
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
    """Return about how many pairs would decide, if the mean stays at this distance from 0."""
    goal = max(distance, margin - distance)  # exclude 0, or stay within the margin
    n = FIRST_LOOK
    while (
        n < 10_000 and -float(scipy.special.stdtrit(n - 2, level)) * spread / math.sqrt(n) >= goal
    ):
        n += 2 * max(1, n // 40)
    return n


def detectable(spread: float, rule: StoppingRule) -> float:
    """Return the speed-up that the rule detects in nine of ten runs; 0.05 is 5 %.

    Args:
        spread: standard deviation of the log ratio of a pair.
        rule: the stopping rule of the final.
    """
    n = rule.most_pairs // 2 * 2
    quantiles = -float(scipy.special.stdtrit(n - 2, rule.level)) + float(
        scipy.special.stdtrit(n - 2, _POWER)
    )
    return math.expm1(quantiles * spread / math.sqrt(n))
