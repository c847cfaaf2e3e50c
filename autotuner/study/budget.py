"""What a study may spend, trials or time, and what is left of it."""

from collections.abc import Callable, Sequence
from statistics import fmean

from autotuner.options.study_spec import StudySpec
from autotuner.study.record import ENDED, Role, TrialRecord

SEARCH_ROLES = (Role.DEFAULT, Role.RECIPE, Role.SCRIPT, Role.SEARCH)
_PAIR_TRIALS = 2.0
_MOST_RESERVE = 0.55


class Budget:
    """Of one study.

    Args:
        spec: what may be spent.
        records: returns the study's trials so far.
        monotonic: returns the time now, in seconds.
        spent_s: what earlier sittings of the same run, which were cut off, have used.
    """

    def __init__(
        self,
        spec: StudySpec,
        records: Callable[[], Sequence[TrialRecord]],
        monotonic: Callable[[], float],
        spent_s: float,
    ) -> None:
        self._spec = spec
        self._records = records
        self._monotonic = monotonic
        self._spent_s = spent_s
        self._started = monotonic()

    @property
    def most_trials(self) -> int | None:
        """How many trials of the search there may be in all; None: time alone limits them."""
        if self._spec.trials is None and self._spec.budget_s is not None:
            return None
        return self._spec.trials or self._spec.plan.trials

    def trials_left(self) -> int:
        """Return how many more trials of the search are wanted; 1 as long as only time counts.

        Those that run now are no more wanted.
        """
        used = sum(r.role in SEARCH_ROLES and r.counts for r in self._records())
        most = self.most_trials
        return 1 if most is None else most - used

    def elapsed_s(self) -> float:
        """Return how much time is used, in seconds."""
        return self._spent_s + self._monotonic() - self._started

    def has_time(self) -> bool:
        """Tell whether one more trial fits, with race and final after it."""
        return self._spec.budget_s is None or self._search_left_s() >= self._next_trial_s()

    def trials_expected(self) -> int:
        """Return about how many more trials of the search there will be, each a new process."""
        if self._spec.trials is not None or self._spec.budget_s is None:
            return self.trials_left()
        return int(self._search_left_s() / max(self._started_trial_s(), 1e-3))

    def _search_left_s(self) -> float:
        """Return how much time is left for the search; race and final have theirs after it."""
        budget_s, plan = self._spec.budget_s or 0.0, self._spec.plan
        race_s = plan.race_trials * self._started_trial_s()
        reserve_s = race_s + self._pairs_s(plan.likely_pairs)
        return budget_s - self.elapsed_s() - min(reserve_s, _MOST_RESERVE * budget_s)

    def has_time_for_pairs(self, count: int = 1) -> bool:
        """Tell whether so many more final pairs fit."""
        budget_s = self._spec.budget_s
        return budget_s is None or self.elapsed_s() + self._pairs_s(count) <= budget_s

    def part_done(self) -> float:
        """Return which part of everything is done, by trials or time, the further one."""
        parts, plan = [0.0], self._spec.plan
        if self._spec.budget_s is not None:
            parts.append(self.elapsed_s() / self._spec.budget_s)
        if self._spec.budget_s is None or self._spec.trials is not None:
            others = plan.processes - 1 + plan.race_trials + 2 * plan.likely_pairs
            ended = sum(record.state in ENDED for record in self._records())
            parts.append(ended / ((self._spec.trials or plan.trials) + others))
        return min(1.0, max(parts))

    def _pairs_s(self, count: int) -> float:
        """Return how long so many pairs last: like those so far, else by the trials."""
        lengths: dict[int, float] = {}
        for record in self._records():
            if record.pair is not None:  # both sides end together, one of them started first
                lengths[record.pair] = max(lengths.get(record.pair, 0.0), record.elapsed_s)
        known = [length for length in lengths.values() if length]
        one_s = fmean(known) if known else _PAIR_TRIALS * self._started_trial_s()
        return count * one_s

    def _started_trial_s(self) -> float:
        """Return how long a trial lasts whose process is started: those of race and final are."""
        records = [r for r in self._records() if r.role is not Role.FINAL and not r.forked]
        # what failed was over sooner
        return _mean_length_s([r for r in records if r.gain is not None])

    def _next_trial_s(self) -> float:
        """Return how long one more trial of the search lasts: like the latest, forked or not."""
        known = [r for r in self._records() if r.role is not Role.FINAL and r.elapsed_s]
        return _mean_length_s([r for r in known if r.forked is known[-1].forked])


def _mean_length_s(records: Sequence[TrialRecord]) -> float:
    lengths = [record.elapsed_s for record in records if record.elapsed_s]
    return sum(lengths) / len(lengths) if lengths else 0.0
