"""The comparison of a trial with the reference of its duel, or with a control before it."""

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean, median

from autotuner.options.study_spec import Objective
from autotuner.statistics.interval import hodges_lehmann, percentile, pseudomedian
from autotuner.statistics.throughput import (
    Unit,
    less_is_better,
    score_outcome,
    score_turn,
    summarize,
)
from autotuner.trial.outcome import Outcome, Round, Status, Turn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A trial compared with a reference. ``gain``: above 1 is better, for every objective.

    ``low`` and ``high``: 95 % interval of the gain of these two processes, None with too few
    rounds; other processes differ by more. ``reference``: the reference's score meanwhile.
    """

    gain: float
    low: float | None
    high: float | None
    rounds: int
    reference: float


def gain_of(candidate: float, reference: float, objective: Objective) -> float:
    """Return how many times better the candidate's score is than the reference's."""
    return reference / candidate if less_is_better(objective) else candidate / reference


def corrected(base: float, gain: float, objective: Objective) -> float:
    """Return a gain as a score in the study's unit, relative to the study's base score."""
    return base / gain if less_is_better(objective) else base * gain


def compare_rounds(
    rounds: Sequence[Round], closing: Turn | None, objective: Objective, unit: Unit
) -> Comparison | None:
    """Return the comparison in a duel, or None without a usable round.

    Each turn of the candidate is compared with the mean of the reference's turns before and after
    it, which a steady drift leaves unbiased. Single turns may be far off, and one of the reference
    would spoil two comparisons, so the reference's turns are first smoothed by running medians of
    three. The centre of the log ratios is the Hodges-Lehmann estimate.
    """
    if objective is Objective.LATENCY_P99:
        return _compare_tails(rounds)
    turns = [*(one.reference for one in rounds), *(() if closing is None else (closing,))]
    scores = [score_turn(turn, objective, unit) for turn in turns]
    if not rounds or None in scores:
        return None
    references = running_medians([math.log(score) for score in scores if score is not None])
    logs = []
    for index, one in enumerate(rounds):
        candidate = score_turn(one.candidate, objective, unit)
        if candidate is not None:
            around = math.exp(fmean(references[index : index + 2]))
            logs.append(math.log(gain_of(candidate, around, objective)))
    if not logs:
        return None
    centre, low, high = hodges_lehmann(logs)
    return Comparison(
        gain=math.exp(centre),
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
        rounds=len(logs),
        reference=math.exp(pseudomedian(references)),
    )


def running_medians(values: Sequence[float]) -> list[float]:
    """Return a series smoothed by running medians of three, which keep a steady drift.

    The ends follow Tukey's rule (Exploratory Data Analysis, 1977): the median of the end value, its
    smoothed neighbour, and the extrapolation of the two nearest smoothed values.
    """
    if len(values) < 3:
        return list(values)
    inner = [median(values[k - 1 : k + 2]) for k in range(1, len(values) - 1)]

    def end(value: float, near: float, far: float) -> float:
        return median((value, near, 3 * near - 2 * far))

    first = end(values[0], inner[0], inner[min(1, len(inner) - 1)])
    last = end(values[-1], inner[-1], inner[max(-2, -len(inner))])
    return [first, *inner, last]


def _compare_tails(rounds: Sequence[Round]) -> Comparison | None:
    """Compare the p99 of all steps of each side: one turn has too few steps for a p99."""
    candidate = [step for one in rounds for step in one.candidate.step_s]
    reference = [step for one in rounds for step in one.reference.step_s]
    if not candidate or not reference:
        return None
    ours, theirs = percentile(candidate, 99), percentile(reference, 99)
    return Comparison(
        gain=theirs / ours, low=None, high=None, rounds=len(rounds), reference=1000 * theirs
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A study's objective in its unit: scores and compares trials."""

    objective: Objective
    unit: Unit

    def score(self, outcome: Outcome) -> float | None:
        """Return the score of one process; None if it was not measured."""
        if outcome.status is not Status.MEASURED:
            return None
        throughput = summarize(outcome, count_samples=self.unit is Unit.SAMPLES)
        if throughput is None:
            return None
        return score_outcome(outcome, throughput, self.objective)

    def compare_duel(self, outcome: Outcome) -> Comparison | None:
        """Return the comparison in a trial's duel; None if not measured, or too briefly."""
        if outcome.status is not Status.MEASURED:
            return None
        return compare_rounds(outcome.rounds, outcome.closing, self.objective, self.unit)

    def compare_scores(self, score: float | None, reference: float | None) -> Comparison | None:
        """Return the comparison of two processes that ran one after the other."""
        if score is None or reference is None:
            return None
        gain = gain_of(score, reference, self.objective)
        return Comparison(gain=gain, low=None, high=None, rounds=0, reference=reference)
