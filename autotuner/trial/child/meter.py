"""A meter: turns ticks (ends of steps) of one kind into windows, first warming up, then measuring.

Pure logic on time stamps; no clock, no TensorFlow. The first tick only starts the clock, so that
tracing and the creation of primitives in the first step never count. Warm-up then lasts until the
rate has stopped rising: the median of the last three windows is at most 5 % above the median of the
three before, after at least ``warmup_min_s``, and in any case after ``warmup_max_s``.
"""

from __future__ import annotations

from array import array
from statistics import median
from typing import NamedTuple

FIRST, WARMUP, MEASURE, COMPLETE = "first", "warmup", "measure", "complete"
_COMPARED_WINDOWS = 3
_STEADY = 1.05
_LEAST_WINDOWS = 5
_NS = 1_000_000_000
_PERCENTILES = (("p50", 50), ("p95", 95), ("p99", 99))


class Rule(NamedTuple):
    """How long to warm up and to measure, in seconds."""

    window_s: float
    warmup_min_s: float
    warmup_max_s: float
    measure_s: float


class Window(NamedTuple):
    """Steps done between two ticks, in seconds of the meter's own running time."""

    stage: str
    start_s: float
    duration_s: float
    steps: int
    samples: int | None


class Meter:
    """Counts the steps of one source and phase.

    ``pause`` and ``resume`` stop its clock, for example between two calls of ``fit``.
    """

    def __init__(self, source: str, phase: str, rule: Rule) -> None:
        self.source = source
        self.phase = phase
        self.stage = FIRST
        self.ticks = 0
        self.windows: list[Window] = []
        self.step_ns = array("q")  # of each measured tick, per step
        self._rule = rule
        self._paused_at: int | None = None
        self._paused_ns = 0
        self._origin_ns = 0
        self._stage_start_ns = 0
        self._window_start_ns = 0
        self._last_ns = 0
        self._steps = 0
        self._samples: int | None = 0

    @property
    def name(self) -> str:
        """The meter's name in events."""
        return self.source + ":" + self.phase

    def pause(self, now_ns: int) -> None:
        """Stop the clock; does nothing if it is stopped."""
        if self._paused_at is None:
            self._paused_at = now_ns

    def resume(self, now_ns: int) -> None:
        """Start the clock again; does nothing if it runs."""
        if self._paused_at is not None:
            self._paused_ns += now_ns - self._paused_at
            self._paused_at = None

    def tick(self, now_ns: int, steps: int = 1, samples: int | None = None) -> Window | None:
        """Count steps that end now; return the window that this closes, if it closes one."""
        self.resume(now_ns)
        self.ticks += 1
        active_ns = now_ns - self._paused_ns
        if self.stage == FIRST:
            self.stage = WARMUP
            self._origin_ns = self._stage_start_ns = self._window_start_ns = active_ns
            self._last_ns = active_ns
            return None
        if self.stage == MEASURE:
            self.step_ns.append((active_ns - self._last_ns) // max(1, steps))
        self._last_ns = active_ns
        self._steps += steps
        if samples is None or self._samples is None:
            self._samples = None
        else:
            self._samples += samples
        elapsed_ns = active_ns - self._window_start_ns
        if elapsed_ns < self._rule.window_s * _NS:
            return None
        return self._close_window(active_ns, elapsed_ns)

    def flush(self) -> Window | None:
        """Close the window that is open when the script ends; None if there is nothing in it."""
        elapsed_ns = self._last_ns - self._window_start_ns
        if not self._steps or elapsed_ns <= 0:
            return None
        return self._close_window(self._last_ns, elapsed_ns)

    def _close_window(self, active_ns: int, elapsed_ns: int) -> Window:
        stage = MEASURE if self.stage in (MEASURE, COMPLETE) else WARMUP
        start_s = (self._window_start_ns - self._origin_ns) / _NS
        window = Window(stage, start_s, elapsed_ns / _NS, self._steps, self._samples)
        self.windows.append(window)
        self._window_start_ns, self._steps, self._samples = active_ns, 0, 0
        in_stage_s = (active_ns - self._stage_start_ns) / _NS
        if self.stage == WARMUP and self._is_warm(in_stage_s):
            self.stage, self._stage_start_ns = MEASURE, active_ns
        elif self.stage == MEASURE and self._is_complete(in_stage_s):
            self.stage = COMPLETE
        return window

    def _is_warm(self, in_stage_s: float) -> bool:
        if in_stage_s >= self._rule.warmup_max_s:
            return True
        if in_stage_s < self._rule.warmup_min_s or len(self.windows) < 2 * _COMPARED_WINDOWS:
            return False
        rates = [window.steps / window.duration_s for window in self.windows]
        last = median(rates[-_COMPARED_WINDOWS:])
        before = median(rates[-2 * _COMPARED_WINDOWS : -_COMPARED_WINDOWS])
        return last <= _STEADY * before

    def _is_complete(self, in_stage_s: float) -> bool:
        measured = sum(window.stage == MEASURE for window in self.windows)
        # long steps: a window each; three times the asked time is enough even for few of them
        enough = measured >= _LEAST_WINDOWS or in_stage_s >= 3 * self._rule.measure_s
        return in_stage_s >= self._rule.measure_s and enough

    def extend(self, now_ns: int) -> None:
        """Go on measuring for as long again, because a better source of steps is at work."""
        self.stage, self._stage_start_ns = MEASURE, now_ns - self._paused_ns

    def step_times_ms(self) -> dict[str, float] | None:
        """Return percentiles of the measured steps' times; None if there are none.

        Nearest-rank percentiles (Hyndman & Fan 1996, type 1). With few steps p99 is the largest.
        """
        ordered = sorted(self.step_ns)
        if not ordered:
            return None
        ranks = {name: -(-len(ordered) * part // 100) - 1 for name, part in _PERCENTILES}
        return {name: ordered[rank] / 1e6 for name, rank in ranks.items()}
