"""Break-even: the cost of tuning, and when it has paid."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payback:
    """When tuning has paid, in seconds.

    ``tuning_s``: the time that tuning took. ``saved_per_hour_s``: the time saved in each hour that
    jobs would run with the defaults. ``break_even_s``: the time of such jobs after which what is
    saved equals the cost.
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
