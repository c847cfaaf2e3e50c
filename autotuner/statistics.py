"""From windows to numbers: pure functions, no I/O.

Windows of one process differ by a few per cent and have outliers on one side, so the centre is the
median and its interval comes from order statistics, which assumes no distribution.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence
from statistics import median

from autotuner.trial.outcome import Outcome, Window


class Unit(enum.StrEnum):
    """What a throughput counts per second."""

    SAMPLES = "samples/s"
    STEPS = "steps/s"
    RUNS = "runs/s"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Throughput:
    """Median rate of a trial's windows with a 95 % interval of that median.

    ``low`` and ``high`` are None with fewer than six windows, which can't give such an interval.
    They say how steady this one process was; another process may differ by more.
    """

    value: float
    low: float | None
    high: float | None
    unit: Unit
    windows: int


def measured_windows(outcome: Outcome) -> tuple[Window, ...]:
    """Return the windows that count: those after the warm-up.

    Where the script ended before its warm-up did, the later half of all windows.
    """
    after = tuple(window for window in outcome.windows if not window.warmup)
    return after or outcome.windows[len(outcome.windows) // 2 :]


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return a 95 % confidence interval of the median, or None with fewer than six values.

    Order statistics with binomial(n, 1/2) ranks (David & Nagaraja, Order Statistics, 7.1): the
    widest pair (x[k], x[n-1-k]) whose tails hold at most 2.5 % each.
    """
    ordered, n = sorted(values), len(values)
    tail, k = 0.0, -1
    while (tail := tail + math.comb(n, k + 1) / 2**n) <= 0.025:
        k += 1
    return (ordered[k], ordered[n - 1 - k]) if k >= 0 else None


def summarize(outcome: Outcome, *, count_samples: bool) -> Throughput | None:
    """Return the throughput of a measured trial, or None if it has no usable window.

    Args:
        outcome: a trial with status MEASURED.
        count_samples: count samples where the batch size is known, else steps. All trials of a
            study must count the same.
    """
    windows = [w for w in measured_windows(outcome) if w.duration_s > 0 and w.steps > 0]
    if not windows:
        return None
    if outcome.source == "process":
        unit = Unit.RUNS
    elif count_samples and knows_samples(outcome):
        unit = Unit.SAMPLES
    else:
        unit = Unit.STEPS
    counts = [(w.samples or 0) if unit is Unit.SAMPLES else w.steps for w in windows]
    rates = [count / w.duration_s for count, w in zip(counts, windows, strict=True)]
    value = median(rates)
    if not (math.isfinite(value) and value > 0):
        return None
    low, high = median_interval(rates) or (None, None)
    return Throughput(value=value, low=low, high=high, unit=unit, windows=len(rates))


def knows_samples(outcome: Outcome) -> bool:
    """Tell whether every window that counts knows its samples."""
    windows = measured_windows(outcome)
    return bool(windows) and all(window.samples for window in windows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """Speed-up over pairs: the median of the pairs' ratios, and the smallest and the largest."""

    median: float
    low: float
    high: float
    pairs: int


def ratio_of_pairs(pairs: Sequence[tuple[float, float]]) -> Ratio | None:
    """Return candidate / default over (candidate, default) throughputs; None without pairs."""
    ratios = sorted(candidate / default for candidate, default in pairs)
    if not ratios:
        return None
    return Ratio(median=median(ratios), low=ratios[0], high=ratios[-1], pairs=len(ratios))
