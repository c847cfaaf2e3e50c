"""One configuration on several machines: each machine's result, and whether they agree.

The sequential test takes all pairs together (:mod:`autotuner.statistics.sequential`). Their mean
may hide a machine on which the configuration loses, so each machine's own mean is checked as well.
The spread is pooled over all machines, because a few pairs on each give a poor estimate of it.
"""

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean

import scipy

from autotuner.statistics.sequential import Pair

WANTED = 3
"""The number of machines on which final pairs run, if there are as many."""

ENOUGH = 2
"""The number of pairs that a machine needs: one of each order."""

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnMachine:
    """The mean ratio of the pairs on one machine, with its 95 % interval if known."""

    machine: str
    ratio: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def wins(self) -> bool:
        """Whether the configuration is faster there."""
        return self.low is not None and self.low > 1

    def loses(self, margin: float) -> bool:
        """Whether it is slower there, or appears slower by more than the margin."""
        return (self.high is not None and self.high < 1) or self.ratio < 1 / (1 + margin)


def on_machines(pairs: Sequence[Pair]) -> tuple[OnMachine, ...]:
    """Return each machine's result, in the order of their names."""
    cells: dict[tuple[str, bool], list[float]] = {}
    for pair in pairs:
        cells.setdefault((pair.machine, pair.first), []).append(pair.log)
    freedom = len(pairs) - len(cells)
    squares = sum((log - fmean(logs)) ** 2 for logs in cells.values() for log in logs)
    spread = math.sqrt(squares / freedom) if freedom > 0 else None
    return tuple(
        _on_machine(
            machine, [logs for (name, _), logs in cells.items() if name == machine], spread, freedom
        )
        for machine in sorted({pair.machine for pair in pairs})
    )


def _on_machine(
    machine: str, orders: Sequence[Sequence[float]], spread: float | None, freedom: int
) -> OnMachine:
    """Return the mean of both orders with equal weights, which cancels the effect of the order."""
    centre = fmean(fmean(logs) for logs in orders)
    low = high = None
    if spread is not None and len(orders) == 2:
        error = spread / 2 * math.sqrt(sum(1 / len(logs) for logs in orders))
        half = float(scipy.special.stdtrit(freedom, 0.5 + _CONFIDENCE / 2)) * error
        low, high = math.exp(centre - half), math.exp(centre + half)
    return OnMachine(
        machine=machine,
        ratio=math.exp(centre),
        low=low,
        high=high,
        pairs=sum(len(logs) for logs in orders),
    )


def disagree(found: Sequence[OnMachine], margin: float) -> bool:
    """Tell whether a configuration wins on one machine and loses on another."""
    known = [one for one in found if one.pairs >= ENOUGH]
    return any(one.wins for one in known) and any(one.loses(margin) for one in known)


def covered(found: Sequence[OnMachine]) -> set[str]:
    """Return the machines that have run enough pairs."""
    return {one.machine for one in found if one.pairs >= ENOUGH}
