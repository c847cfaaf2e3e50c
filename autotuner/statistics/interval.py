"""Distribution-free intervals that account for autocorrelation.

Windows and rounds of one process differ by a few per cent, have outliers, and are autocorrelated.
So centres are medians or Hodges-Lehmann estimates, intervals come from ranks, and the number of
values is replaced by their effective sample size.
"""

import functools
import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

_Z95 = 1.96


def effective_size(values: Sequence[float]) -> float:
    """Return the effective sample size: as many independent values would be as informative.

    n (1 - r) / (1 + r) with the lag-1 autocorrelation r of an AR(1) process, which is first
    corrected for its bias in short series, (1 + 3 r) / n (Kendall 1954; Marriott & Pope 1954).
    Values beyond 4 median deviations are clipped first: an outlier would hide the correlation.
    """
    n = len(values)
    if n < 4:
        return float(n)
    centre = median(values)
    x = np.asarray(values, dtype=float) - centre
    spread = 4 * 1.4826 * median(abs(value - centre) for value in values)
    if spread > 0:
        x = np.clip(x, -spread, spread)
    x = x - x.mean()
    power = float(x @ x)
    if power <= 0:
        return float(n)
    r = float(x[1:] @ x[:-1]) / power
    r += (1 + 3 * r) / n
    r = min(max(r, 0.0), 0.95)
    return max(1.0, n * (1 - r) / (1 + r))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return a 95 % confidence interval of the median, or None with too few values.

    Order statistics with binomial(n, 1/2) ranks (David & Nagaraja, Order Statistics, 7.1): the
    narrowest pair (x[k], x[n-1-k]) whose tails hold at most 2.5 % each, with the effective size for
    n and the ranks stretched to all values. At least six independent values are needed.
    """
    ordered = sorted(values)
    n = math.floor(effective_size(values))
    tail, k = 0.0, -1
    while (tail := tail + math.comb(n, k + 1) / 2**n) <= 0.025:
        k += 1
    if k < 0:
        return None
    rank = math.floor(k * (len(ordered) - 1) / max(1, n - 1))
    return ordered[rank], ordered[len(ordered) - 1 - rank]


def _pairwise_means(values: Sequence[float]) -> Any:
    """Return the sorted means of all pairs, each value with itself included."""
    x = np.asarray(values, dtype=float)
    i, j = _pairs(len(values))
    return np.sort((x[i] + x[j]) / 2)


@functools.lru_cache(maxsize=64)
def _pairs(n: int) -> Any:
    return np.triu_indices(n)


def _middle(ordered: Any) -> float:
    half = len(ordered) // 2
    return float(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def pseudomedian(values: Sequence[float]) -> float:
    """Return the Hodges-Lehmann centre of values without an interval."""
    return _middle(_pairwise_means(values))


def hodges_lehmann(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the centre of values and its 95 % interval, which needs at least six values.

    The median of all pairwise means, with Wilcoxon's signed-rank interval (Hollander & Wolfe,
    Nonparametric Statistical Methods, 3.2 and 3.3; normal approximation), widened for the
    autocorrelation. Without outliers it is nearly as precise as a mean, and it tolerates about a
    quarter of outliers.
    """
    n = len(values)
    walsh = _pairwise_means(values)
    centre = _middle(walsh)
    if n < 6:
        return centre, None, None
    widening = math.sqrt(n / effective_size(values))
    reach = _Z95 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24) * widening
    rank = max(0, math.floor(len(walsh) / 2 - reach))
    return centre, float(walsh[rank]), float(walsh[len(walsh) - 1 - rank])


def percentile(values: Sequence[float], part: int) -> float:
    """Return the nearest-rank percentile (Hyndman & Fan 1996, type 1)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


def is_tight(values: Sequence[float], *, relative: float) -> bool:
    """Tell whether the median's interval lies within a relative distance of the median."""
    interval = median_interval(values)
    if interval is None:
        return False
    centre = median(values)
    return max(interval[1] - centre, centre - interval[0]) <= relative * abs(centre)
