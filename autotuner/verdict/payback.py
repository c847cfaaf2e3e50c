"""Break-even: what tuning has cost, and when it has paid."""

import dataclasses
from collections.abc import Iterable

from optuna.trial import FrozenTrial

_GAP_S = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payback:
    """When tuning has paid, in seconds.

    ``tuning_s``: time spent. ``saved_per_hour_s``: saved in each hour that a job would run with the
    defaults. ``break_even_s``: after how much running with the defaults it has paid.
    """

    tuning_s: float
    saved_per_hour_s: float
    break_even_s: float


def payback(tuning_s: float, ratio: float) -> Payback | None:
    """Return when tuning has paid; None if nothing was gained.

    A job of length t with the defaults takes t / ratio: it saves t (1 - 1 / ratio).
    """
    if ratio <= 1:
        return None
    saved = 1 - 1 / ratio
    return Payback(tuning_s=tuning_s, saved_per_hour_s=3600 * saved, break_even_s=tuning_s / saved)


def time_spent_s(trials: Iterable[FrozenTrial]) -> float:
    """Return how long trials took by the clock, with short gaps between them, in seconds."""
    spans = sorted(
        (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp())
        for trial in trials
        if trial.datetime_start is not None and trial.datetime_complete is not None
    )
    total, until = 0.0, 0.0
    for start, end in spans:
        begin = until if start - until <= _GAP_S else start
        total += max(0.0, end - begin)
        until = max(until, end)
    return total
