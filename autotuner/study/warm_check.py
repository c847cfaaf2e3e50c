"""Whether a warm parent may fork trials of the search: a check on a few runs of the defaults.

Forked and started processes of the defaults each run a duel against the reference. Race and final
do not depend on the check: their processes are always started.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from autotuner.trial.request import WarmStart

_NORMAL_QUANTILE = 1.96
_MOST_DIFFERENCE = 0.05
_LEAST_SPREAD = 0.003
_SLOWER_START = 5.0
_LEAST_TIMEOUT_S = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmCheck:
    """The result of the check.

    ``used``: whether trials of the search are forked; ``why``: the reason, for the user. ``ratio``
    with its 95 % interval: throughput of forked over started processes of the defaults; None if it
    was not measured. ``modules`` and ``start_timeout_s``: see :class:`WarmStart`.
    """

    used: bool
    why: str
    modules: tuple[str, ...] = ()
    start_timeout_s: float = 0.0
    ratio: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def warm_start(self) -> WarmStart | None:
        """How trials of the search are forked; None: they are started."""
        if not self.used:
            return None
        return WarmStart(modules=self.modules, start_timeout_s=self.start_timeout_s)


def start_timeout_s(first_step_s: float, most_s: float) -> float:
    """Return the time after which a forked process without a step is taken to hang.

    Args:
        first_step_s: the time that a started process took to the end of its first step.
        most_s: the study's limit.
    """
    return min(most_s, max(_LEAST_TIMEOUT_S, _SLOWER_START * first_step_s))


def judge_warm(
    started: Sequence[float],
    forked: Sequence[float],
    between: float,
    threads: Sequence[Mapping[str, int]],
    candidate: WarmCheck,
) -> WarmCheck:
    """Return the candidate with ``used`` and ``why`` decided.

    Args:
        started: log gains of started processes of the defaults over the reference.
        forked: the same for forked processes.
        between: standard deviation of log gains from process to process.
        threads: number of threads by name, of a started process and of the forked ones.
        candidate: the result if the check passes.
    """
    if not forked:
        return dataclasses.replace(candidate, used=False, why="forked processes fail")
    if any(one != threads[0] for one in threads[1:]):
        return dataclasses.replace(candidate, used=False, why="forked processes have other threads")
    difference = fmean(forked) - (fmean(started) if started else 0.0)
    error = max(between, _LEAST_SPREAD) * math.sqrt(1 / len(forked) + 1 / max(1, len(started)))
    half = _NORMAL_QUANTILE * error
    used = abs(difference) <= half and abs(difference) <= _MOST_DIFFERENCE
    ratio, low, high = (math.exp(difference + d) for d in (0.0, -half, half))
    measured = f"forked processes do {ratio:.2f}x of started ones ({low:.2f}x-{high:.2f}x)"
    return dataclasses.replace(
        candidate,
        used=used,
        why=f"{measured}: no difference" if used else f"{measured}: that differs",
        ratio=ratio,
        low=low,
        high=high,
    )
