"""The shape of a measurement over time: two kinds of steps, trend, pauses, too few steps."""

import math
from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from autotuner.statistics.throughput import measured_windows
from autotuner.trial.duel import pause_limit, pauses_are_rare
from autotuner.trial.outcome import Notice, Outcome

_RARE = 0.1
_APART = math.log(1.5)
_LEAST_STEPS = 20
_LEAST_WINDOWS = 12
_LONG_PAUSES = 0.05
_TREND = 0.05
_TREND_Z = 3.0


def shape_notices(outcome: Outcome) -> Iterator[Notice]:
    """Yield notices about the shape of a trial of the defaults."""
    if outcome.source == "process":
        yield _notice(
            "whole_process",
            "the script has no loop of at least five steps, so each run is timed as a whole, "
            "start-up included; mark steps by autotuner.step(), or let the script run more steps",
        )
        return
    yield from _too_short(outcome)
    yield from _pauses(outcome.step_s)
    modes = two_modes(outcome.step_s)
    if modes is not None:
        part, ratio = modes
        yield _notice(
            "two_modes",
            f"steps come in two kinds: {part:.0%} of them take about {ratio:.1f} times as long as "
            f"the others. Rates average over many steps of both; p99 shows the slow kind",
        )
    change = trend([w.steps / w.duration_s for w in measured_windows(outcome) if w.duration_s])
    if change is not None and change < 0:
        yield _notice(
            "slows_down",
            f"the script gets slower while it runs, by {-change:.0%} during one measurement. "
            f"Configurations are compared at the same age; a long run may behave differently",
        )
    elif change is not None:
        yield _notice(
            "speeds_up",
            f"the script was still getting faster after its warm-up, by {change:.0%} during one "
            f"measurement: a longer warmup_min in the [timing] of a study file may help",
        )


def _notice(kind: str, text: str) -> Notice:
    return Notice(kind=kind, where="", text=text)


def _too_short(outcome: Outcome) -> Iterator[Notice]:
    if not outcome.complete:
        text = "the script ended before the measurement was complete"
        if not outcome.warm:
            text += ", and even before its speed was steady"
        text += (
            "; let it run longer for better numbers. Each trial runs the whole script, "
            "including whatever it writes at its end"
        )
        yield _notice("short", text)


def _pauses(step_s: Sequence[float]) -> Iterator[Notice]:
    limit = pause_limit(step_s)
    pauses = [length for length in step_s if length > limit]
    total = sum(step_s)
    part = sum(pauses) / total if total > 0 else 0.0
    if pauses_are_rare([step_s]) and part >= _LONG_PAUSES:
        yield _notice(
            "pauses",
            f"{'a pause' if len(pauses) == 1 else f'{len(pauses)} pauses'} of over ten times the "
            f"length of a step (ends of epochs, checkpoints) took {part:.0%} of the measurement. "
            f"They are too rare to be compared, so speeds are those of the other steps",
        )


def two_modes(step_s: Sequence[float]) -> tuple[float, float] | None:
    """Return the two kinds of step times, if there are two.

    Returns:
        (fraction of slow steps, their length as a multiple of the fast ones'), or None if there is
        one kind. Otsu's method (1979) on logarithms splits the steps so that the variance within
        both groups is least. There are two kinds if each group holds at least a tenth of the steps,
        the slow steps take 1.5 times as long or more, four fifths of the variance lie between the
        groups, and hardly a step lies in the middle.
    """
    if len(step_s) < _LEAST_STEPS:
        return None
    x = np.sort(np.log(np.maximum(np.asarray(step_s, dtype=float), 1e-9)))
    n = len(x)
    total = float(((x - x.mean()) ** 2).sum())
    if total <= 0:
        return None
    k = np.arange(1, n)
    sums = np.cumsum(x)[:-1]
    low, high = sums / k, (x.sum() - sums) / (n - k)
    between = k * (n - k) / n * (high - low) ** 2
    best = int(np.argmax(between))
    fast, slow = float(low[best]), float(high[best])
    part = 1 - float(k[best]) / n
    middle = (x > fast + (slow - fast) / 3) & (x < slow - (slow - fast) / 3)
    two = (
        _RARE <= part <= 1 - _RARE
        and slow - fast >= _APART
        and between[best] >= 0.8 * total
        and float(middle.mean()) < 0.05
    )
    return (part, math.exp(slow - fast)) if two else None


def trend(rates: Sequence[float]) -> float | None:
    """Return the relative change of a rate over a series, if it clearly exceeds 5 %, or None.

    Mann-Kendall's test for a trend and Theil-Sen's slope (Hollander & Wolfe, 8.1 and 9.2), the
    threshold high (z = 3) because neighbouring windows are correlated.
    """
    n = len(rates)
    if n < _LEAST_WINDOWS:
        return None
    x = np.asarray(rates, dtype=float)
    i, j = np.triu_indices(n, 1)
    score = float(np.sign(x[j] - x[i]).sum())
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    if abs(score) < _TREND_Z * deviation:
        return None
    slope = float(np.median((x[j] - x[i]) / (j - i)))
    change = slope * (n - 1) / median(rates)
    return change if abs(change) >= _TREND else None
