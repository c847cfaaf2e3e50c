"""The assessment of a trial: when to stop it, whether it counts, which limit it breaks."""

import dataclasses
import enum
import math
from collections.abc import Sequence

from autotuner.options.study_spec import Objective, StudySpec
from autotuner.statistics.comparison import Comparison, Metric, compare_rounds
from autotuner.statistics.interval import median_interval
from autotuner.statistics.throughput import (
    Throughput,
    Unit,
    step_percentiles_ms,
    summarize,
    windows_suffice,
)
from autotuner.study.record import Measurement
from autotuner.study.study_facts import StudyFacts
from autotuner.trial.outcome import Outcome, Round, Status, Window

_TIGHT = 0.01
_CLEARLY = 2.0
_DRIFT_ALLOWED = 0.15


class Seen(enum.Enum):
    """What a trial has shown so far."""

    TOO_LITTLE = enum.auto()
    ENOUGH = enum.auto()
    SLOWER = enum.auto()
    """Clearly slower than the incumbent: the trial is abandoned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """When a trial can stop: its gain is precise enough, or clearly below the incumbent's.

    The best windows alone decide nothing: on a noisy machine single windows are off by a factor.
    ``incumbent``: the best gain so far; None: no trial is abandoned. ``between``: standard
    deviation of log gains from process to process.
    """

    metric: Metric
    incumbent: float | None = None
    between: float = 0.0

    def look_at_duel(self, rounds: Sequence[Round]) -> Seen:
        """Return what a duel has shown so far."""
        seen = compare_rounds(rounds, None, self.metric.objective, self.metric.unit)
        if seen is None or seen.low is None or seen.high is None:
            return Seen.TOO_LITTLE
        if self.incumbent is not None:
            threshold = self.incumbent * math.exp(-_CLEARLY * max(self.between, _TIGHT))
            if seen.high < threshold:
                return Seen.SLOWER
        half = math.log(seen.high / seen.low) / 2
        return Seen.ENOUGH if half <= max(_TIGHT, self.between / 2) else Seen.TOO_LITTLE

    def look_at_windows(self, windows: Sequence[Window], control: float | None) -> Seen:
        """Return what a process that is measured alone has shown so far.

        Args:
            windows: measured so far.
            control: throughput of the latest control; None: not known.
        """
        if self.metric.objective is not Objective.THROUGHPUT:
            return Seen.TOO_LITTLE
        in_samples = self.metric.unit is Unit.SAMPLES
        counts = [(w.samples or 0) if in_samples else w.steps for w in windows]
        rates = [n / w.duration_s for n, w in zip(counts, windows, strict=True) if w.duration_s]
        interval = median_interval(rates)
        if self.incumbent is not None and control is not None and interval is not None:
            threshold = control * self.incumbent * (1 - _DRIFT_ALLOWED)
            if interval[1] < threshold:
                return Seen.SLOWER
        known = windows_suffice(list(windows), relative=_TIGHT)
        return Seen.ENOUGH if known else Seen.TOO_LITTLE


def assess(
    outcome: Outcome,
    comparison: Comparison | None,
    facts: StudyFacts,
    limits: StudySpec | None,
    *,
    abandoned: bool = False,
) -> tuple[Outcome, Measurement]:
    """Return a trial's measurement; an outcome that does not count gets another status.

    Args:
        outcome: how the trial ended.
        comparison: with the defaults; None if there is none.
        facts: of the study.
        limits: the specification whose limits apply to this trial; None: no limits apply.
        abandoned: the trial was ended early because it was clearly slower.
    """
    if outcome.status is not Status.MEASURED:
        return outcome, Measurement()
    throughput = summarize(outcome, count_samples=facts.unit is Unit.SAMPLES)
    reason = unit_problem(throughput, facts.unit)
    if reason is None and comparison is None:
        reason = "it could not be compared with the defaults: too few steps"
    if reason is not None:
        return dataclasses.replace(outcome, status=Status.NO_STEPS, reason=reason), Measurement()
    measurement = Measurement(
        throughput=throughput,
        score=facts.metric.score(outcome),
        comparison=comparison,
        abandoned=abandoned,
    )
    reason = None if limits is None else limit_problem(outcome, limits)
    if reason is not None:
        outcome = dataclasses.replace(outcome, status=Status.OVER_LIMIT, reason=reason)
    return outcome, measurement


def unit_problem(throughput: Throughput | None, unit: Unit) -> str | None:
    """Return why a trial does not count in the study's unit, or None."""
    if throughput is not None and throughput.unit is unit:
        return None
    found = "nothing" if throughput is None else throughput.unit.value
    return f"the script was measured in {found}, the study counts {unit.value}"


def limit_problem(outcome: Outcome, spec: StudySpec) -> str | None:
    """Return which of the user's limits a trial breaks, or None."""
    peak, most = outcome.facts.peak_rss_bytes, spec.max_memory_bytes
    if peak and most is not None and peak > most:
        return f"peak memory {peak / 2**20:,.0f} MiB, allowed {most / 2**20:,.0f} MiB"
    p99, longest = step_percentiles_ms(outcome).get("p99"), spec.max_latency_p99_s
    if p99 is not None and longest is not None and p99 > 1000 * longest:
        return f"p99 of step times {p99:.3g} ms, allowed {1000 * longest:.3g} ms"
    return None
