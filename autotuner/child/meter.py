"""A meter turns ticks (ends of steps) into windows: first of the warm-up, then of the measurement.

Pure logic on time stamps; no clock, no TensorFlow. The first tick only starts the clock, so that
tracing and the creation of primitives in the first step never count. The warm-up then lasts until
the rate no longer rises: the median of the last third of all windows is at most 2 % above the
median of the third before it, at three checks in a row, after at least ``warmup_min_s``. It ends
after ``warmup_max_s`` at the latest. The comparison of parts of a run as a test for convergence is
Geweke's (1992). The parts are thirds because they grow with the run, so that a slow ramp is
compared with a long past.

Each window keeps its marks, the ends of its steps on the machine's monotonic clock, so that the
parent can assign steps to the turns of a duel.
"""

from __future__ import annotations

from array import array
from statistics import median
from typing import Any, NamedTuple

FIRST, WARMUP, MEASURE, COMPLETE = "first", "warmup", "measure", "complete"
_STEADY = 1.02
_STEADY_CHECKS = 3
_LEAST_WARMUP_WINDOWS = 6
_LEAST_WINDOWS = 5
_MOST_MARKS = 1000
_NS = 1_000_000_000


class MeterRule(NamedTuple):
    """Bounds of warm-up and measurement, in seconds."""

    window_s: float
    warmup_min_s: float
    warmup_max_s: float
    measure_s: float


class MeterWindow(NamedTuple):
    """Steps done between two ticks, in seconds of the meter's own running time.

    ``at_ns``: when the window began, on the monotonic clock. ``ends_us``: microseconds from there
    to each mark. ``counts``: steps that end at each mark; 1 if one ends at every mark.
    ``lengths_us``: the meter's running time from mark to mark; None if the meter never paused.
    """

    stage: str
    start_s: float
    duration_s: float
    steps: int
    samples: int | None
    at_ns: int
    ends_us: list[int]
    counts: int | list[int]
    lengths_us: list[int] | None


class _Marks:
    """The ends of a window's steps."""

    def __init__(self) -> None:
        self._now_ns = array("q")
        self._length_ns = array("q")
        self._steps = array("q")

    def add(self, now_ns: int, length_ns: int, steps: int) -> None:
        """Add the end of one or more steps."""
        self._now_ns.append(now_ns)
        self._length_ns.append(length_ns)
        self._steps.append(steps)

    def take(self, at_ns: int) -> dict[str, Any]:
        """Return the marks of a window and clear them; very many are merged."""
        stride = -(-len(self._now_ns) // _MOST_MARKS) or 1
        starts = range(0, len(self._now_ns), stride)
        now = [self._now_ns[min(i + stride, len(self._now_ns)) - 1] for i in starts]
        lengths = [sum(self._length_ns[i : i + stride]) for i in starts]
        counts = [sum(self._steps[i : i + stride]) for i in starts]
        self._now_ns, self._length_ns, self._steps = array("q"), array("q"), array("q")
        before = [at_ns, *now]
        moved = any(abs(b - a - c) > 1000 for a, b, c in zip(before, now, lengths))
        return {
            "ends_us": [(value - at_ns) // 1000 for value in now],
            "counts": 1 if all(count == 1 for count in counts) else counts,
            "lengths_us": [value // 1000 for value in lengths] if moved else None,
        }


class Meter:
    """Counts the steps of one source and phase.

    ``pause`` and ``resume`` stop its clock, for example between two calls of ``fit``.
    """

    def __init__(self, source: str, phase: str, rule: MeterRule) -> None:
        self.source = source
        self.phase = phase
        self.stage = FIRST
        self.ticks = 0
        self.windows: list[MeterWindow] = []
        self._rates: list[float] = []
        self._steady_checks = 0
        self._measured = 0
        self._marks = _Marks()
        self._rule = rule
        self._paused_at: int | None = None
        self._paused_ns = 0
        self._origin_ns = 0
        self._stage_start_ns = 0
        self._window_start_ns = 0
        self._window_at_ns = 0
        self._last_ns = 0
        self._steps = 0
        self._samples: int | None = 0
        self.holds_warmup = False

    @property
    def name(self) -> str:
        """The meter's name in events."""
        return self.source + ":" + self.phase

    def pause(self, now_ns: int) -> None:
        """Stop the clock; do nothing if it is stopped."""
        if self._paused_at is None:
            self._paused_at = now_ns

    def resume(self, now_ns: int) -> None:
        """Start the clock again; do nothing if it runs."""
        if self._paused_at is not None:
            self._paused_ns += now_ns - self._paused_at
            self._paused_at = None

    def tick(self, now_ns: int, steps: int = 1, samples: int | None = None) -> MeterWindow | None:
        """Count steps that end now; return the window that this closes, or None."""
        self.resume(now_ns)
        self.ticks += 1
        active_ns = now_ns - self._paused_ns
        if self.stage == FIRST:
            self.stage = WARMUP
            self._origin_ns = self._stage_start_ns = self._window_start_ns = active_ns
            self._last_ns, self._window_at_ns = active_ns, now_ns
            return None
        self._marks.add(now_ns, active_ns - self._last_ns, steps)
        self._last_ns = active_ns
        self._steps += steps
        if samples is None or self._samples is None:
            self._samples = None
        else:
            self._samples += samples
        elapsed_ns = active_ns - self._window_start_ns
        if elapsed_ns < self._rule.window_s * _NS:
            return None
        return self._close_window(now_ns, active_ns, elapsed_ns)

    def flush(self, now_ns: int) -> MeterWindow | None:
        """Close the open window at the script's end; return None if it is empty."""
        elapsed_ns = self._last_ns - self._window_start_ns
        if not self._steps or elapsed_ns <= 0:
            return None
        return self._close_window(now_ns, self._last_ns, elapsed_ns)

    def _close_window(self, now_ns: int, active_ns: int, elapsed_ns: int) -> MeterWindow:
        stage = MEASURE if self.stage in (MEASURE, COMPLETE) else WARMUP
        window = MeterWindow(
            stage=stage,
            start_s=(self._window_start_ns - self._origin_ns) / _NS,
            duration_s=elapsed_ns / _NS,
            steps=self._steps,
            samples=self._samples,
            at_ns=self._window_at_ns,
            **self._marks.take(self._window_at_ns),
        )
        self.windows.append(window._replace(ends_us=[], counts=1, lengths_us=None))
        self._window_start_ns, self._window_at_ns = active_ns, now_ns
        self._steps, self._samples = 0, 0
        in_stage_s = (active_ns - self._stage_start_ns) / _NS
        if self.stage == WARMUP:
            self._rates.append(window.steps / window.duration_s)
            if self._is_warm(in_stage_s):
                self.stage, self._stage_start_ns = MEASURE, active_ns
        elif self.stage == MEASURE:
            self._measured += 1
            if self._is_complete(in_stage_s):
                self.stage = COMPLETE
        return window

    def _is_warm(self, in_stage_s: float) -> bool:
        if in_stage_s >= self._rule.warmup_max_s:
            return True
        third = len(self._rates) // 3
        last, before = self._rates[-third:], self._rates[-2 * third : -third]
        enough = len(self._rates) >= _LEAST_WARMUP_WINDOWS
        steady = enough and median(last) <= _STEADY * median(before)
        self._steady_checks = self._steady_checks + 1 if steady else 0
        if self.holds_warmup or in_stage_s < self._rule.warmup_min_s:
            return False
        return self._steady_checks >= _STEADY_CHECKS

    def _is_complete(self, in_stage_s: float) -> bool:
        # each long step fills a window; few windows suffice after three times the requested time
        enough = self._measured >= _LEAST_WINDOWS or in_stage_s >= 3 * self._rule.measure_s
        return in_stage_s >= self._rule.measure_s and enough

    def finish(self) -> None:
        """Complete the measurement, on the parent's order."""
        if self.stage == MEASURE:
            self.stage = COMPLETE

    def extend(self, now_ns: int) -> None:
        """Restart the measurement, because a preferred source of steps ticks as well."""
        self.stage, self._stage_start_ns = MEASURE, now_ns - self._paused_ns
