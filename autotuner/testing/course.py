"""Regret over the course of a search: the speed missed, by minutes and by configurations tried."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import median

from autotuner.knobs.knob import Configuration
from autotuner.testing.replay import Surface

STEP_MINUTES = 0.25
MOST_TRIED = 0.25


@dataclasses.dataclass(frozen=True)
class Moment:
    """The recommendation at a moment. ``tried``: the number of distinct configurations so far."""

    minutes: float
    tried: int
    recommended: Configuration


@dataclasses.dataclass(frozen=True)
class Trace:
    """One run of a strategy. ``claims``: it reports its last recommendation as faster.

    ``deployed``: the configuration of its exported files; None if that is the recommended one.
    """

    moments: tuple[Moment, ...]
    claims: bool
    deployed: Configuration | None = None

    def at_minutes(self, minutes: float) -> Configuration | None:
        """Return the recommendation after so many minutes; None if there is none."""
        return next((m.recommended for m in reversed(self.moments) if m.minutes <= minutes), None)

    def at_tried(self, tried: float) -> Configuration | None:
        """Return the recommendation after so many configurations; None if there is none."""
        return next((m.recommended for m in reversed(self.moments) if m.tried <= tried), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """The regrets of all runs of a strategy on a surface; 1 before the first recommendation.

    ``by_minutes``: at virtual minutes; ``by_tried``: by the number of distinct configurations.
    ``final``: of the last recommendation, after ``tried`` configurations in the median.
    ``false_claims``: fraction of the runs that reported a slower configuration as faster.
    """

    by_minutes: Mapping[float, Sequence[float]]
    by_tried: Mapping[int, Sequence[float]]
    final: Sequence[float]
    false_claims: float
    tried: float


def regret_of(surface: Surface, recommended: Configuration | None) -> float:
    """Return the fraction of the best speed that is missed; 1 without a recommendation."""
    return 1.0 if recommended is None else surface.regret(recommended)


def course(surface: Surface, traces: Sequence[Trace], minutes: float) -> Course:
    """Return a strategy's course from its runs of so many minutes."""

    def is_false(one: Trace) -> bool:
        gain = surface.truth[surface.key(one.moments[-1].recommended)]
        return one.claims and gain <= 0

    times = [k * STEP_MINUTES for k in range(1, round(minutes / STEP_MINUTES) + 1)]
    counts = range(1, math.ceil(MOST_TRIED * len(surface.points)) + 1)
    return Course(
        by_minutes={m: [regret_of(surface, one.at_minutes(m)) for one in traces] for m in times},
        by_tried={n: [regret_of(surface, one.at_tried(n)) for one in traces] for n in counts},
        final=[regret_of(surface, one.moments[-1].recommended) for one in traces],
        false_claims=sum(map(is_false, traces)) / len(traces),
        tried=median(one.moments[-1].tried for one in traces),
    )
