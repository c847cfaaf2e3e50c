"""How noisy measurements are on this machine, from several processes of the defaults."""

import dataclasses
import enum
import math
from collections.abc import Iterable, Sequence
from statistics import stdev

from autotuner.machine.conditions import Cause

DISTURBING_CORES = 0.3
SLICE_S = 0.3


class Method(enum.StrEnum):
    """How a trial is compared with the defaults."""

    DUEL = "duel"
    SEQUENTIAL = "sequential"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """How configurations are compared: method, reason against duels, length of a turn."""

    method: Method = Method.SEQUENTIAL
    why: str = ""
    slice_s: float = SLICE_S


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise check's result. Deviations are of natural logarithms: 0.02 is 2 %.

    ``between``: standard deviation from one process to the next, as the study's method sees it;
    ``raw``: the same measured one after the other, without a reference. ``inside``: half of the
    95 % interval inside one process. ``others_cores``: CPUs that other processes used meanwhile.
    ``why``: the reason against duels; empty if duels are used.
    """

    method: Method
    why: str
    processes: int
    between: float
    raw: float
    inside: float | None
    slice_s: float
    others_cores: float = 0.0
    causes: tuple[Cause, ...] = ()

    @property
    def design(self) -> Design:
        """How trials are compared with the defaults."""
        return Design(method=self.method, why=self.why, slice_s=self.slice_s)

    def with_design(self, design: Design) -> "Noise":
        """Return the same noise under another design."""
        return dataclasses.replace(
            self, method=design.method, why=design.why, slice_s=design.slice_s
        )

    def is_disturbed(self, others_cores: float | None) -> bool:
        """Return whether other processes used clearly more CPUs than during the noise check."""
        return others_cores is not None and others_cores >= self.others_cores + DISTURBING_CORES

    @property
    def of_a_pair(self) -> float:
        """Standard deviation of the ratio of two fresh processes."""
        return math.sqrt(2) * self.between


def spread_of_processes(gains: Sequence[float], inside: float | None) -> float:
    """Return the standard deviation between processes, from their gains over one of them.

    The reference is a process like the others, with a gain of 1 over itself. Two or three processes
    may agree by chance, so the result is at least the standard error of a gain.
    """
    own_error = 0.0 if inside is None else inside / 1.96
    return max(own_error, stdev([0.0, *map(math.log, gains)])) if gains else own_error


def spread_of_scores(scores: Sequence[float]) -> float:
    """Return the standard deviation of the logarithms of scores; 0 for less than two."""
    return stdev(map(math.log, scores)) if len(scores) > 1 else 0.0


def inside_spread(intervals: Iterable[tuple[float | None, float | None]]) -> float | None:
    """Return the mean half-width of gains' intervals, as logarithms; None if there are none."""
    halves = [
        math.log(high / low) / 2 for low, high in intervals if low is not None and high is not None
    ]
    return sum(halves) / len(halves) if halves else None
