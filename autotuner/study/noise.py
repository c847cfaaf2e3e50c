"""How noisy measurements are here, told from several processes of the defaults."""

import dataclasses
import enum
import math
from collections.abc import Sequence
from statistics import stdev
from typing import Any

from autotuner.machine.conditions import Cause
from autotuner.statistics.comparison import Comparison

DISTURBING_CORES = 0.3


class Method(enum.StrEnum):
    """How a trial is held against the defaults."""

    DUEL = "duel"
    SEQUENTIAL = "sequential"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise check's result. Deviations are of natural logarithms: 0.02 is 2 %.

    ``between``: standard deviation from one process to the next, as the study's method sees it;
    ``raw``: the same measured one after the other, without a reference. ``inside``: half of the
    95 % interval inside one process. ``others_cores``: CPUs that other processes used meanwhile.
    ``why``: why it is not duels, if it is not.
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

    def is_disturbed(self, others_cores: float | None) -> bool:
        """Tell whether other processes used clearly more CPUs than during the noise check."""
        return others_cores is not None and others_cores >= self.others_cores + DISTURBING_CORES

    @property
    def of_a_pair(self) -> float:
        """Standard deviation of the ratio of two fresh processes."""
        return math.sqrt(2) * self.between


def spread_of_processes(gains: Sequence[float], inside: float | None) -> float:
    """Return the standard deviation between processes, from their gains over one of them.

    The reference is a process like the others, whose gain over itself is 1. Two or three processes
    may agree by chance: it is no less than the standard error that a gain has by itself.
    """
    own_error = 0.0 if inside is None else inside / 1.96
    return max(own_error, stdev([0.0, *map(math.log, gains)])) if gains else own_error


def spread_of_scores(scores: Sequence[float]) -> float:
    """Return the standard deviation of the logarithms of scores; 0 for less than two."""
    return stdev(map(math.log, scores)) if len(scores) > 1 else 0.0


def inside_spread(comparisons: Sequence[Comparison]) -> float | None:
    """Return the mean half-width of the comparisons' intervals; None if there are none."""
    halves = [
        math.log(c.high / c.low) / 2
        for c in comparisons
        if c.low is not None and c.high is not None
    ]
    return sum(halves) / len(halves) if halves else None


def noise_as_json(noise: Noise) -> dict[str, Any]:
    """Return the noise as a study keeps it."""
    return dataclasses.asdict(noise)


def noise_from_json(stored: dict[str, Any]) -> Noise:
    """Return the noise that a study keeps."""
    causes = tuple(Cause(**cause) for cause in stored["causes"])
    return Noise(**{**stored, "method": Method(stored["method"]), "causes": causes})
