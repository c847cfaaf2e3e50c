"""The budget of a study in trials and time: pure functions of its trials."""

import dataclasses
from collections.abc import Sequence
from statistics import fmean

from autotuner.options.study_spec import StudySpec
from autotuner.study.record import Role, TrialRecord

SEARCH_ROLES = (Role.DEFAULT, Role.RECIPE, Role.SCRIPT, Role.SEARCH)
_PAIR_TRIALS = 2.0
_MOST_RESERVE = 0.55


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What is left of a study's trials and time.

    ``records``: of all its trials. ``elapsed_s``: the time used so far, in seconds.
    """

    spec: StudySpec
    records: Sequence[TrialRecord]
    elapsed_s: float

    @property
    def most_trials(self) -> int | None:
        """The greatest number of trials of the search; None: only time limits them."""
        if self.spec.trials is None and self.spec.budget_s is not None:
            return None
        return self.spec.trials or self.spec.plan.trials

    @property
    def trials_left(self) -> int:
        """How many more trials of the search may start; always 1 if only time limits them."""
        used = sum(r.role in SEARCH_ROLES and r.counts for r in self.records)
        most = self.most_trials
        return 1 if most is None else most - used

    @property
    def searches(self) -> bool:
        """Whether one more trial of the search fits."""
        return self.trials_left > 0 and self.has_time

    @property
    def has_time(self) -> bool:
        """Whether time is left for one more trial, with race and final after it."""
        return self.spec.budget_s is None or self._search_left_s >= self._next_trial_s

    @property
    def trials_expected(self) -> int:
        """The expected number of further trials of the search, each in a new process."""
        if self.spec.trials is not None or self.spec.budget_s is None:
            return self.trials_left
        return int(self._search_left_s / max(self._started_trial_s, 1e-3))

    @property
    def part_done(self) -> float:
        """The fraction of the study that is done, by trials or by time, whichever is larger."""
        parts, plan = [0.0], self.spec.plan
        if self.spec.budget_s is not None:
            parts.append(self.elapsed_s / self.spec.budget_s)
        if self.spec.budget_s is None or self.spec.trials is not None:
            others = plan.processes - 1 + plan.race_trials + 2 * plan.likely_pairs
            ended = sum(record.has_ended for record in self.records)
            parts.append(ended / ((self.spec.trials or plan.trials) + others))
        return min(1.0, max(parts))

    def has_time_for_pairs(self, count: int = 1) -> bool:
        """Return whether ``count`` more final pairs fit."""
        budget_s = self.spec.budget_s
        return budget_s is None or self.elapsed_s + self._pairs_s(count) <= budget_s

    @property
    def _search_left_s(self) -> float:
        """The time left for the search, without the reserve for race and final, in seconds."""
        budget_s, plan = self.spec.budget_s or 0.0, self.spec.plan
        race_s = plan.race_trials * self._started_trial_s
        reserve_s = race_s + self._pairs_s(plan.likely_pairs)
        return budget_s - self.elapsed_s - min(reserve_s, _MOST_RESERVE * budget_s)

    def _pairs_s(self, count: int) -> float:
        """Return how long ``count`` pairs last: as long as those so far, else by the trials."""
        lengths: dict[int, float] = {}
        for record in self.records:
            if record.pair is not None:  # both sides end together, one of them started first
                lengths[record.pair] = max(lengths.get(record.pair, 0.0), record.elapsed_s)
        known = [length for length in lengths.values() if length]
        one_s = fmean(known) if known else _PAIR_TRIALS * self._started_trial_s
        return count * one_s

    @property
    def _started_trial_s(self) -> float:
        """The mean length of trials in started processes, as in race and final."""
        records = [r for r in self.records if r.role is not Role.FINAL and not r.forked]
        # failed trials end sooner
        return _mean_length_s([r for r in records if r.gain is not None])

    @property
    def _next_trial_s(self) -> float:
        """The expected length of the next trial of the search, forked or not like the latest."""
        known = [r for r in self.records if r.role is not Role.FINAL and r.elapsed_s]
        return _mean_length_s([r for r in known if r.forked is known[-1].forked])


def _mean_length_s(records: Sequence[TrialRecord]) -> float:
    lengths = [record.elapsed_s for record in records if record.elapsed_s]
    return sum(lengths) / len(lengths) if lengths else 0.0
