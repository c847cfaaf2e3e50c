"""One configuration on several machines: what each of them shows, and whether they agree.

All pairs together are tested as on one machine (:mod:`autotuner.statistics.sequential`). That mean
may hide a machine on which the configuration loses, so each machine's own mean is looked at as
well, with the spread that all machines have in common, as a few pairs on each say little of it.
"""

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean

from scipy.special import stdtrit

from autotuner.statistics.sequential import Pair

WANTED = 3
"""On how many machines final pairs are run, where there are so many."""

ENOUGH = 2
"""How many pairs a machine needs: one of each order."""

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnMachine:
    """What the pairs on one machine show: their mean ratio, with its 95 % interval if known."""

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
        """Whether it is slower there, or seems to be so by more than the margin."""
        return (self.high is not None and self.high < 1) or self.ratio < 1 / (1 + margin)


def on_machines(pairs: Sequence[Pair]) -> tuple[OnMachine, ...]:
    """Return what each machine shows, in the order of their names."""
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
    """Return the mean over both orders, as much of each, so that who starts first is out of it."""
    centre = fmean(fmean(logs) for logs in orders)
    low = high = None
    if spread is not None and len(orders) == 2:
        error = spread / 2 * math.sqrt(sum(1 / len(logs) for logs in orders))
        half = float(stdtrit(freedom, 0.5 + _CONFIDENCE / 2)) * error
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
