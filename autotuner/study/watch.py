"""Watching a trial: when it has been seen enough, and whether it breaks a limit of the user's."""

import dataclasses
import math
from collections.abc import Sequence

from autotuner.options.study_spec import Objective, StudySpec
from autotuner.statistics.comparison import Metric, compare_rounds
from autotuner.statistics.interval import median_interval
from autotuner.statistics.throughput import (
    Throughput,
    Unit,
    step_percentiles_ms,
    windows_suffice,
)
from autotuner.trial.outcome import Outcome, Round, Window

_TIGHT = 0.01
_CLEARLY = 2.0
_DRIFT_ALLOWED = 0.15


@dataclasses.dataclass(kw_only=True)
class Watch:
    """Tells when a trial has been seen enough: known well, or clearly slower than the best.

    Not by its best windows alone: on a noisy machine single ones are off by a factor.
    """

    metric: Metric
    incumbent: float | None
    between: float
    reference: float | None = None
    abandoned: bool = False

    def rounds(self, rounds: Sequence[Round]) -> bool:
        """Judge a duel so far."""
        seen = compare_rounds(rounds, None, self.metric.objective, self.metric.unit)
        if seen is None or seen.low is None or seen.high is None:
            return False
        if self.incumbent is not None and seen.high < self.incumbent * math.exp(
            -_CLEARLY * max(self.between, _TIGHT)
        ):
            self.abandoned = True
        half = math.log(seen.high / seen.low) / 2
        return self.abandoned or half <= max(_TIGHT, self.between / 2)

    def windows(self, windows: Sequence[Window]) -> bool:
        """Judge a process that is measured alone so far."""
        if self.metric.objective is not Objective.THROUGHPUT:
            return False
        in_samples = self.metric.unit is Unit.SAMPLES
        counts = [(w.samples or 0) if in_samples else w.steps for w in windows]
        rates = [n / w.duration_s for n, w in zip(counts, windows, strict=True) if w.duration_s]
        interval = median_interval(rates)
        if self.incumbent is not None and self.reference is not None and interval is not None:
            threshold = self.reference * self.incumbent * (1 - _DRIFT_ALLOWED)
            self.abandoned = interval[1] < threshold
        return self.abandoned or windows_suffice(list(windows), relative=_TIGHT)


def unit_problem(throughput: Throughput | None, unit: Unit) -> str | None:
    """Return why a trial does not count in the study's unit, or None."""
    if throughput is not None and throughput.unit is unit:
        return None
    found = "nothing" if throughput is None else throughput.unit.value
    return f"the script was measured in {found}, the study counts {unit.value}"


def limit_problem(outcome: Outcome, spec: StudySpec) -> str | None:
    """Return which limit of the user's a trial breaks, or None."""
    peak, most = outcome.facts.peak_rss_bytes, spec.max_memory_bytes
    if peak and most is not None and peak > most:
        return f"peak memory {peak / 2**20:,.0f} MiB, allowed {most / 2**20:,.0f} MiB"
    p99, longest = step_percentiles_ms(outcome).get("p99"), spec.max_latency_p99_s
    if p99 is not None and longest is not None and p99 > 1000 * longest:
        return f"p99 of step times {p99:.3g} ms, allowed {1000 * longest:.3g} ms"
    return None
