"""Efforts, and the plan of each for the stages of a study."""

import dataclasses
import enum

_FAST_BUDGET_S, _BALANCED_BUDGET_S = 330.0, 1200.0


class Effort(enum.StrEnum):
    """How long to search: about 3, 10 and 30 minutes for a script that starts in 5 s."""

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of an effort.

    ``processes``: number of processes of the defaults in the noise check. ``trials``: of the
    search, defaults and recipe included. ``shortlist``: candidates in the race; each runs once in
    each of the ``race_rounds``. ``most_pairs``: limit of the final; a budget reserves time
    for ``likely_pairs``. ``measure_s`` and ``final_measure_s``: longest measurement of a trial, and
    of a process in the final. ``diagnoses``: find the bottleneck of a step first.
    """

    processes: int
    trials: int
    shortlist: int
    race_rounds: int
    likely_pairs: int
    most_pairs: int
    measure_s: float
    final_measure_s: float
    diagnoses: bool = True

    @property
    def race_trials(self) -> int:
        """Greatest number of trials of the race, without the recipe."""
        return self.shortlist * self.race_rounds


PLANS = {
    Effort.FAST: Plan(
        processes=2,
        trials=8,
        shortlist=1,
        race_rounds=0,
        likely_pairs=4,
        most_pairs=8,
        measure_s=1.5,
        final_measure_s=2.5,
        diagnoses=False,
    ),
    Effort.BALANCED: Plan(
        processes=3,
        trials=25,
        shortlist=3,
        race_rounds=2,
        likely_pairs=6,
        most_pairs=16,
        measure_s=2.0,
        final_measure_s=4.0,
    ),
    Effort.THOROUGH: Plan(
        processes=5,
        trials=70,
        shortlist=4,
        race_rounds=4,
        likely_pairs=6,
        most_pairs=30,
        measure_s=3.0,
        final_measure_s=5.0,
    ),
}


def effort_for(budget_s: float | None) -> Effort:
    """Return the effort that suits a budget."""
    if budget_s is None:
        return Effort.BALANCED
    if budget_s <= _FAST_BUDGET_S:
        return Effort.FAST
    return Effort.BALANCED if budget_s <= _BALANCED_BUDGET_S else Effort.THOROUGH
