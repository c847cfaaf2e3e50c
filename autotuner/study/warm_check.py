"""May trials of the search be forked by a warm parent? What a few such runs of the defaults say.

The same configuration, forked and started: each meets the same resident process, in turns with it.
Race and final never rest on this: their processes are started, whatever is found here.
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
    """What is known of forked processes.

    ``used``: whether trials of the search are forked; ``why``: in a sentence for the user.
    ``ratio`` with its 95 % interval: throughput of forked over started processes of the defaults;
    None where it was not looked at. ``modules`` and ``start_timeout_s``: see :class:`WarmStart`.
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
        """How trials of the search start; None: by themselves."""
        if not self.used:
            return None
        return WarmStart(modules=self.modules, start_timeout_s=self.start_timeout_s)


def start_timeout_s(first_step_s: float, most_s: float) -> float:
    """Return after how long a forked process that has made no step is taken to hang.

    Args:
        first_step_s: how long a started one took to the end of its first step.
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
    """Return the candidate, used or not, and why.

    Args:
        started: log gains over the resident of the defaults' processes that were started.
        forked: the same of those that were forked.
        between: standard deviation of log gains from process to process.
        threads: of a started process and of the forked ones, how many there were by name.
        candidate: what to use if nothing speaks against it.
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
