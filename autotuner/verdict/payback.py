"""Break-even: what tuning has cost, and when it has paid."""

import dataclasses


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
