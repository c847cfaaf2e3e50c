"""The throughput of one process, and its score by the study's objective."""

import dataclasses
import enum
import math
from statistics import median

from autotuner.options.study_spec import Objective
from autotuner.statistics.interval import is_tight, median_interval, percentile
from autotuner.trial.outcome import Outcome, Turn, Window

_PERCENTILES = (50, 95, 99)
_LEAST_WINDOWS = 10


class Unit(enum.StrEnum):
    """The unit of a throughput."""

    SAMPLES = "samples/s"
    STEPS = "steps/s"
    RUNS = "runs/s"


def score_unit(objective: Objective, unit: Unit) -> str:
    """Return the unit of a study's scores."""
    match objective:
        case Objective.LATENCY_P50 | Objective.LATENCY_P99:
            return "ms"
        case Objective.CPU_EFFICIENCY:
            return unit.value.replace("/s", "/CPU s")
        case Objective.THROUGHPUT:
            return unit.value


def less_is_better(objective: Objective) -> bool:
    """Tell whether a smaller score is better."""
    return objective in (Objective.LATENCY_P50, Objective.LATENCY_P99)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Throughput:
    """The median rate of a trial's windows with a 95 % interval of that median.

    ``low`` and ``high`` are None with too few windows. They show how steady this one process was;
    another process may differ by more.
    """

    value: float
    low: float | None
    high: float | None
    unit: Unit
    windows: int


def measured_windows(outcome: Outcome) -> tuple[Window, ...]:
    """Return the windows after the warm-up.

    If the script ended during its warm-up, return the later half of all windows.
    """
    after = tuple(window for window in outcome.windows if not window.warmup)
    return after or outcome.windows[len(outcome.windows) // 2 :]


def _count(of: Window | Turn, unit: Unit) -> float:
    return (of.samples or 0) if unit is Unit.SAMPLES else of.steps


def window_rates(outcome: Outcome, unit: Unit) -> list[float]:
    """Return the rate of each measured window, in order."""
    windows = [w for w in measured_windows(outcome) if w.duration_s > 0 and w.steps > 0]
    return [_count(window, unit) / window.duration_s for window in windows]


def summarize(outcome: Outcome, *, count_samples: bool) -> Throughput | None:
    """Return the throughput of a measured trial, or None if it has no usable window.

    Args:
        outcome: a trial with status MEASURED.
        count_samples: count samples if the batch size is known, otherwise steps. All trials of a
            study must use the same unit.
    """
    if outcome.source == "process":
        unit = Unit.RUNS
    elif count_samples and knows_samples(outcome):
        unit = Unit.SAMPLES
    else:
        unit = Unit.STEPS
    rates = window_rates(outcome, unit)
    if not rates:
        return None
    value = median(rates)
    if not (math.isfinite(value) and value > 0):
        return None
    low, high = median_interval(rates) or (None, None)
    return Throughput(value=value, low=low, high=high, unit=unit, windows=len(rates))


def knows_samples(outcome: Outcome) -> bool:
    """Tell whether the number of samples is known for every measured window."""
    windows = measured_windows(outcome)
    return bool(windows) and all(window.samples for window in windows)


def step_percentiles_ms(outcome: Outcome) -> dict[str, float]:
    """Return "p50", "p95" and "p99" of the lengths of the measured steps; empty without steps."""
    if not outcome.step_s:
        return {}
    return {f"p{part}": 1000 * percentile(outcome.step_s, part) for part in _PERCENTILES}


def score_outcome(outcome: Outcome, throughput: Throughput, objective: Objective) -> float | None:
    """Return a process's score by the objective; None if it can't be known."""
    match objective:
        case Objective.THROUGHPUT:
            return throughput.value
        case Objective.CPU_EFFICIENCY:
            cores = outcome.cost.cores_used
            return throughput.value / cores if cores else None
        case Objective.LATENCY_P50:
            return step_percentiles_ms(outcome).get("p50")
        case Objective.LATENCY_P99:
            return step_percentiles_ms(outcome).get("p99")


def score_turn(turn: Turn, objective: Objective, unit: Unit) -> float | None:
    """Return a turn's score by the objective; None without one, such as a p99 of few steps."""
    rate = _count(turn, unit) / turn.duration_s if turn.duration_s > 0 else 0.0
    match objective:
        case Objective.THROUGHPUT:
            score = rate
        case Objective.CPU_EFFICIENCY:
            score = rate * turn.turn_s / turn.cpu_s if turn.cpu_s > 0 else 0.0
        case Objective.LATENCY_P50:
            score = 1000 * percentile(turn.step_s, 50) if turn.step_s else 0.0
        case Objective.LATENCY_P99:
            return None
    return score if score > 0 else None


def windows_suffice(windows: list[Window], *, relative: float) -> bool:
    """Tell whether the rate of a process is known well enough to end the measurement."""
    rates = [window.steps / window.duration_s for window in windows if window.duration_s > 0]
    return len(rates) >= _LEAST_WINDOWS and is_tight(rates, relative=relative)
