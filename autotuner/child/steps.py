"""Finds the script's step: a meter for each source and phase, and the choice between them.

Sources in order of preference: explicit ``autotuner.step()`` calls, keras loops, batches drawn from
a dataset, calls of functions and models. Several may tick in one script (a keras loop also calls a
function), so a complete meter counts only if no preferred source has ticked meanwhile. Ticks are
cheap: a comparison or two and an addition.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any, Callable

from .event_pipe import EventPipe, OrderPipe
from .meter import COMPLETE, MEASURE, WARMUP, Meter, MeterRule
from .values import numbers_of

STEP, KERAS, DATASET, FUNCTION, PROCESS = "step", "keras", "dataset", "function", "process"
_PREFERENCE = {STEP: 0, KERAS: 1, DATASET: 2, FUNCTION: 3, PROCESS: 4}
_SHORTEST_LOOP = 5  # ticks
_ACTIVE = 2  # ticks during a measurement that make a preferred source count as active


class MeasurementComplete(BaseException):
    """Unwinds the user's script; a BaseException, because scripts catch Exception."""


class StepFinder:
    """Receives ticks from all sources and ends the script when one measurement is complete."""

    def __init__(
        self,
        pipe: EventPipe,
        rule: MeterRule,
        *,
        source: str,
        phase: str | None,
        facts: Callable[[], dict[str, Any]],
        usage: Callable[[], dict[str, float]],
        orders: OrderPipe,
    ) -> None:
        self._pipe = pipe
        self._orders = orders
        self._rule = rule
        self._source = source
        self._phase = phase
        self._facts = facts
        self._usage = usage
        self._usage_at_start: dict[str, dict[str, float]] = {}
        self._lock = threading.RLock()
        self._meters: dict[tuple[str, str], Meter] = {}
        self._preferred_at_start: dict[str, dict[str, int]] = {}
        self._other_phases: set[str] = set()
        self._quiet = 0
        self._filling: str | None = None
        self.values_wanted = 0
        self.explicit = False
        self.finished = False

    def listens_to(self, source: str) -> bool:
        """Return whether ticks of this source can count, for the callers' fast path."""
        return self._source in ("auto", source) and self._pipe.is_open

    def observe(self, source: str, result: Any) -> None:
        """Send what an execution computed, if the request wants it; unwind after the last one.

        The caller calls this after the execution's tick.
        """
        if not self.values_wanted or self.finished or (self._quiet and source != KERAS):
            return
        numbers = numbers_of(result)
        if not numbers:
            return
        self._pipe.emit("values", values=numbers)
        self.values_wanted -= 1
        if not self.values_wanted:
            self.finished = True
            self._pipe.emit("done", result="values", facts={})
            self._unwind()

    def mute(self) -> None:
        """Ignore datasets and functions while a keras loop runs, which uses both."""
        self._quiet += 1

    def unmute(self) -> None:
        """End one :meth:`mute`."""
        self._quiet -= 1

    def pause(self, source: str, phase: str) -> None:
        """Stop a meter's clock."""
        meter = self._meters.get((source, phase))
        if meter is not None:
            meter.pause(time.monotonic_ns())

    def resume(self, source: str, phase: str) -> None:
        """Start a meter's clock again."""
        meter = self._meters.get((source, phase))
        if meter is not None:
            meter.resume(time.monotonic_ns())

    def tick(self, source: str, phase: str, steps: int = 1, samples: int | None = None) -> None:
        """Count steps that end now; unwind the script when a measurement is complete."""
        now_ns = time.monotonic_ns()
        if self.finished:  # unwinding: the script's finally blocks may call functions
            return
        if not self.listens_to(source):
            return
        if self._quiet and source in (DATASET, FUNCTION):
            return
        if self._phase not in (None, phase):
            self._other_phases.add(phase)
            return
        with self._lock:
            meter = self._meters.get((source, phase))
            if meter is None:
                meter = self._meters[source, phase] = Meter(source, phase, self._rule)
                meter.holds_warmup = self._filling is not None
            before = meter.stage
            window = meter.tick(now_ns, steps, samples)
            if window is not None:
                self._pipe.emit("window", meter=meter.name, **window._asdict())
                if before == MEASURE and self._orders.has_finish():
                    meter.finish()
            if meter.stage != before:
                self._enter(meter, now_ns)

    def cache_met(self, where: str) -> None:
        """Note that the script caches a dataset; its first pass is slower than all others."""
        if self._filling is None and not self._meters:
            self._filling = where
            text = "the first pass fills this cache; it counts as warm-up"
            self._pipe.emit("notice", kind="cache", where=where, text=text)

    def cache_iterated(self) -> None:
        """Note that a pass over a cached dataset begins."""
        if self._filling is not None and any(meter.ticks for meter in self._meters.values()):
            self._filling = None
            for meter in self._meters.values():
                meter.holds_warmup = False

    def _enter(self, meter: Meter, now_ns: int) -> None:
        if meter.stage == MEASURE and meter.holds_warmup and self._filling:
            text = (
                f"the first pass, which fills this cache, did not end within "
                f"{self._rule.warmup_max_s:g} s of warm-up, so the measurement includes it. "
                f"Allow more by warmup_max in the [timing] of a study file"
            )
            self._pipe.emit("notice", kind="cache", where=self._filling, text=text)
        if meter.stage in (WARMUP, MEASURE):
            self._preferred_at_start[meter.name] = self._preferred_ticks(meter)
            if meter.stage == MEASURE:
                self._usage_at_start[meter.name] = self._usage()
            self._pipe.emit(
                "stage",
                stage=meter.stage,
                meter=meter.name,
                source=meter.source,
                phase=meter.phase,
            )
        elif meter.stage == COMPLETE:
            if self._is_outranked(meter):
                meter.extend(now_ns)
                self._preferred_at_start[meter.name] = self._preferred_ticks(meter)
            else:
                self._finish(meter)
                self._unwind()

    def _preferred_ticks(self, meter: Meter) -> dict[str, int]:
        return {m.name: m.ticks for m in self._meters.values() if self._is_preferred(m, meter)}

    def _is_preferred(self, one: Meter, other: Meter) -> bool:
        if one.source != other.source:
            return _PREFERENCE[one.source] < _PREFERENCE[other.source]
        # fit and evaluate alternate, or training and validation loops: the first one counts
        order = list(self._meters.values())
        return one.source in (KERAS, DATASET) and order.index(one) < order.index(other)

    def _is_outranked(self, meter: Meter) -> bool:
        waits_for_marks = self._source == "auto" and self._phase in (None, STEP)
        if self.explicit and meter.source != STEP and waits_for_marks:
            return True
        before = self._preferred_at_start[meter.name]
        now = self._preferred_ticks(meter)
        return any(ticks - before.get(name, 0) >= _ACTIVE for name, ticks in now.items())

    def _finish(self, meter: Meter) -> None:
        self.finished = True
        stages = [window.stage for window in meter.windows]
        start, end = self._usage_at_start.get(meter.name), self._usage()
        self._pipe.emit(
            "done",
            result="measured",
            meter=meter.name,
            source=meter.source,
            phase=meter.phase,
            complete=meter.stage == COMPLETE,
            warm=MEASURE in stages,
            usage=None if start is None else {k: end[k] - v for k, v in start.items() if k in end},
            ticks=meter.ticks,
            facts=self._facts(),
        )

    def _unwind(self) -> None:
        if not self._pipe.is_open:
            return
        main = threading.main_thread()
        if threading.current_thread() is not main and main.ident is not None:
            # the loop runs in another thread of the script: the main thread has to end as well
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(main.ident), ctypes.py_object(MeasurementComplete)
            )
        raise MeasurementComplete

    def falls_back_to_process(self) -> bool:
        """Tell whether the whole process would count as the step if the script ended now."""
        if self._source == PROCESS:
            return True
        seen = any(map(_is_a_loop, self._meters.values()))
        return self._source == "auto" and self._phase is None and not seen

    def script_ended(self, duration_s: float) -> None:
        """Report the best meter when the script has ended by itself.

        Preferred are a meter that finished its warm-up, then the preferred source, then the longest
        measurement. Without a meter the whole process is the step, unless the request names a
        source or a phase.
        """
        if self.finished:
            return
        with self._lock:
            self._flush()
            if self.falls_back_to_process():
                self._finish(self._whole_process(duration_s))
                return
            meters = [meter for meter in self._meters.values() if meter.windows]
            if not meters:
                self.finished = True
                self._pipe.emit(
                    "done",
                    result="no_steps",
                    phases_seen=sorted(self._other_phases),
                    facts=self._facts(),
                )
                return
            self._finish(min(meters, key=_worth))

    def _flush(self) -> None:
        """Close the incomplete windows of short loops."""
        for meter in self._meters.values():
            if meter.windows or not _is_a_loop(meter):
                continue
            window = meter.flush(time.monotonic_ns())
            if window is not None:
                self._pipe.emit("window", meter=meter.name, **window._asdict())

    def _whole_process(self, duration_s: float) -> Meter:
        rule = self._rule._replace(window_s=0.0, warmup_max_s=0.0, measure_s=0.0)
        meter = Meter(PROCESS, "process", rule)
        meter.tick(0)
        meter.stage = MEASURE
        window = meter.tick(max(1, round(duration_s * 1e9)), 1)
        meter.stage = COMPLETE
        assert window is not None
        self._pipe.emit("window", meter=meter.name, **window._asdict())
        return meter


def _is_a_loop(meter: Meter) -> bool:
    """Tell a short loop from a few calls besides the script's main work."""
    return bool(meter.windows) or meter.ticks >= _SHORTEST_LOOP


def _worth(meter: Meter) -> tuple[bool, int, float]:
    warm = any(window.stage == MEASURE for window in meter.windows)
    total_s = sum(window.duration_s for window in meter.windows)
    return (not warm, _PREFERENCE[meter.source], -total_s)
