"""The child's meter and step finder on simulated time."""

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from autotuner.child import steps as steps_module
from autotuner.child.event_pipe import OrderPipe
from autotuner.child.keras_steps import Pass
from autotuner.child.meter import COMPLETE, MEASURE, WARMUP, Meter, MeterRule, MeterWindow
from autotuner.child.steps import MeasurementComplete, StepFinder

RULE = MeterRule(window_s=0.2, warmup_min_s=0.5, warmup_max_s=10.0, measure_s=2.0)
MS = 1_000_000


def run_meter(durations_ms: Iterator[float], rule: MeterRule = RULE) -> Meter:
    """Feed steps of the given lengths until the meter is complete."""
    meter, now = Meter("keras", "fit", rule), 0.0
    meter.tick(0)
    for duration in durations_ms:
        now += duration * MS
        meter.tick(round(now), 1, 10)
        if meter.stage == COMPLETE:
            break
    return meter


def rate(meter: Meter, stage: str) -> float:
    """Return steps per second in a stage."""
    windows = [w for w in meter.windows if w.stage == stage]
    return sum(w.steps for w in windows) / sum(w.duration_s for w in windows)


def test_a_steady_script_is_measured_exactly() -> None:
    """Steps of ten milliseconds are a hundred steps per second."""
    meter = run_meter(itertools.repeat(10.0))
    assert meter.stage == COMPLETE
    assert rate(meter, MEASURE) == pytest.approx(100)
    assert all(w.samples == 10 * w.steps for w in meter.windows)


def test_warm_up_does_not_leak_into_the_measurement() -> None:
    """Steps that get faster for two seconds belong to the warm-up."""
    ramp = [100 / (1 + k / 4) for k in range(60)]
    meter = run_meter(itertools.chain(ramp, itertools.repeat(ramp[-1])))
    first = next(w for w in meter.windows if w.stage == MEASURE)
    assert first.steps / first.duration_s == pytest.approx(1000 / ramp[-1], rel=0.06)


def test_a_warm_up_that_never_ends_is_ended() -> None:
    """A script that gets faster for ever is measured after warmup_max_s."""

    def doubling_every_second() -> Iterator[float]:
        now_ms = 0.0
        while True:
            length_ms = 100 / 2 ** (now_ms / 1000)
            now_ms += length_ms
            yield length_ms

    meter = run_meter(doubling_every_second(), RULE._replace(warmup_max_s=3.0))
    assert meter.stage == COMPLETE
    warm_s = sum(w.duration_s for w in meter.windows if w.stage == WARMUP)
    assert 3.0 <= warm_s < 3.5


def test_long_steps_are_a_window_each() -> None:
    """Steps longer than a window are measured too, within a bounded number of them."""
    meter = run_meter(itertools.repeat(1500.0))
    assert meter.stage == COMPLETE
    assert all(w.steps == 1 for w in meter.windows)
    assert rate(meter, MEASURE) == pytest.approx(1 / 1.5)
    assert sum(w.stage == MEASURE for w in meter.windows) <= 5


def take_marks(meter: Meter, now: int, lengths_ms: list[float]) -> list[MeterWindow]:
    """Feed steps and return the windows that they close, with marks."""
    windows = []
    for length in lengths_ms:
        now += round(length * MS)
        window = meter.tick(now, 1, 10)
        if window is not None:
            windows.append(window)
    return windows


def test_marks_say_when_each_step_ended() -> None:
    """The marks are absolute times, so that the parent can assign steps to turns."""
    meter = Meter("keras", "fit", RULE)
    meter.tick(5_000 * MS)
    first, second = take_marks(meter, 5_000 * MS, [50.0, 70.0, 90.0, 100.0, 100.0])
    assert (first.at_ns, first.ends_us, first.counts) == (5_000 * MS, [50_000, 120_000, 210_000], 1)
    assert first.lengths_us is None
    assert (second.at_ns, second.ends_us) == (5_210 * MS, [100_000, 200_000])


def test_marks_leave_pauses_out_of_lengths() -> None:
    """The time between two calls of fit is in the marks, not in the steps' lengths."""
    meter, now = Meter("keras", "fit", RULE), 0
    meter.tick(0)
    meter.tick(100 * MS)
    meter.pause(100 * MS)
    meter.resume(500 * MS)
    window = meter.tick(600 * MS)
    assert window is not None
    assert (window.ends_us, window.lengths_us) == ([100_000, 600_000], [100_000, 100_000])
    assert now == 0


def test_very_many_marks_are_merged() -> None:
    """A hundred thousand steps per second are merged into fewer marks."""
    meter = Meter("keras", "fit", RULE)
    meter.tick(0)
    (window,) = take_marks(meter, 0, [0.04] * 5000)
    assert isinstance(window.counts, list)
    assert len(window.ends_us) <= 1000
    assert sum(window.counts) == window.steps == 5000
    assert window.ends_us[-1] == 200_000


def test_a_pause_does_not_count() -> None:
    """The time between two calls of fit does not count for the loop."""
    meter, now = Meter("keras", "fit", RULE), 0
    meter.tick(0)
    while meter.stage != COMPLETE:
        for _ in range(10):
            now += 10 * MS
            meter.tick(now)
        meter.pause(now)
        now += 500 * MS
        meter.resume(now)
    assert rate(meter, MEASURE) == pytest.approx(100)


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        return self.now


class Pipe:
    """Collects events."""

    is_open = True

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    @property
    def done(self) -> dict[str, Any]:
        return next(e for e in self.events if e["event"] == "done")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the step finder a simulated clock."""
    clock = Clock()
    monkeypatch.setattr(steps_module, "time", clock)
    return clock


def finder(
    pipe: Pipe, source: str = "auto", phase: str | None = None, orders: OrderPipe | None = None
) -> StepFinder:
    """Return a step finder that writes to a list."""
    return StepFinder(
        pipe,  # type: ignore[arg-type]
        RULE,
        source=source,
        phase=phase,
        facts=dict,
        usage=dict,
        orders=orders or OrderPipe(None),
    )


def loop(clock: Clock, finder: StepFinder, *ticks: tuple[str, str], steps: int = 5000) -> None:
    """Run a loop whose body ticks in the given sources, 10 ms apart."""
    for _ in range(steps):
        for source, phase in ticks:
            clock.now += 10 * MS
            finder.tick(source, phase)


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ([("function", "f"), ("dataset", "d")], ("dataset", "d")),
        ([("function", "f"), ("function", "g")], ("function", "f")),
        ([("dataset", "d"), ("keras", "fit"), ("step", "step")], ("step", "step")),
        ([("keras", "fit"), ("keras", "evaluate"), ("keras", "evaluate")], ("keras", "fit")),
    ],
)
def test_the_preferred_source_counts(
    clock: Clock, ticks: list[tuple[str, str]], expected: tuple[str, str]
) -> None:
    """Of several ticking sources the preferred one is measured; among equals the first."""
    pipe = Pipe()
    with pytest.raises(MeasurementComplete):
        loop(clock, finder(pipe), *ticks)
    assert (pipe.done["source"], pipe.done["phase"]) == expected
    assert pipe.done["complete"]


def test_a_short_preferred_phase_does_not_hold_up_a_long_one(clock: Clock) -> None:
    """A fit of a few steps before a long inference loop: the first long loop is measured."""
    pipe = Pipe()
    subject = finder(pipe)
    loop(clock, subject, ("keras", "fit"), steps=20)
    with pytest.raises(MeasurementComplete):
        loop(clock, subject, ("function", "infer"))
    assert pipe.done["source"] == "function"


def test_a_phase_that_is_asked_for(clock: Clock) -> None:
    """Only the requested phase counts."""
    pipe = Pipe()
    with pytest.raises(MeasurementComplete):
        loop(clock, finder(pipe, phase="predict"), ("keras", "fit"), ("keras", "predict"))
    assert pipe.done["phase"] == "predict"


def test_a_script_that_means_to_mark_steps_is_waited_for(clock: Clock) -> None:
    """If the script accesses autotuner.step, the finder waits for its steps, however rare."""
    pipe = Pipe()
    subject = finder(pipe)
    subject.explicit = True
    loop(clock, subject, ("keras", "fit"), steps=2000)
    subject.script_ended(20.0)
    assert (pipe.done["source"], pipe.done["complete"]) == ("keras", False)


def test_the_script_is_unwound_once(clock: Clock) -> None:
    """Steps in the script's finally blocks raise nothing."""
    subject = finder(Pipe())
    with pytest.raises(MeasurementComplete):
        loop(clock, subject, ("function", "f"))
    loop(clock, subject, ("function", "f"), steps=10)


def test_a_phase_is_not_held_up_by_marks(clock: Clock) -> None:
    """A requested phase outranks the script's own marks, which belong to no phase."""
    pipe = Pipe()
    subject = finder(pipe, phase="fit")
    subject.explicit = True
    with pytest.raises(MeasurementComplete):
        loop(clock, subject, ("keras", "fit"))
    assert pipe.done["phase"] == "fit"


def test_other_phases_are_named(clock: Clock) -> None:
    """If the requested phase never comes, the result lists the phases seen."""
    pipe = Pipe()
    subject = finder(pipe, phase="fitt")
    loop(clock, subject, ("keras", "fit"), ("keras", "predict"), steps=3)
    subject.script_ended(1.0)
    assert (pipe.done["result"], pipe.done["phases_seen"]) == ("no_steps", ["fit", "predict"])


@pytest.mark.parametrize(
    ("known", "most", "expected"),
    [
        ((4, 10, 35), 1, [(1, 10), (1, 10), (1, 10), (1, 5), (1, 10)]),
        ((5, 10, None), 2, [(2, 20), (2, 20), (1, 10), (2, 20)]),
        ((2, 32, 40), 8, [(2, 40), (2, 40)]),
        ((None, 8, None), 3, [(3, 24), (3, 24)]),
        ((None, None, None), 1, [(1, None)]),
    ],
)
def test_executions_are_counted_as_large_as_they_are(
    known: tuple[int | None, int | None, int | None],
    most: int,
    expected: list[tuple[int, int | None]],
) -> None:
    """The last execution of a pass may be smaller, in steps and in samples."""
    subject = Pass(*known)
    assert [subject.advance(most) for _ in expected] == expected


def test_a_script_that_ends_early_reports_its_best(clock: Clock) -> None:
    """Without a complete meter the warm meter of the preferred source is reported."""
    pipe = Pipe()
    subject = finder(pipe)
    loop(clock, subject, ("function", "f"), ("dataset", "d"), steps=100)
    subject.script_ended(2.0)
    assert (pipe.done["source"], pipe.done["complete"], pipe.done["warm"]) == (
        "dataset",
        False,
        True,
    )


def test_a_phase_shorter_than_a_window_is_reported(clock: Clock) -> None:
    """A few steps are better than the whole process with its imports."""
    pipe = Pipe()
    subject = finder(pipe)
    loop(clock, subject, ("keras", "predict"), steps=5)
    subject.script_ended(4.0)
    assert (pipe.done["source"], pipe.done["complete"]) == ("keras", False)
    window = next(e for e in pipe.events if e["event"] == "window")
    assert (window["steps"], window["duration_s"]) == (4, pytest.approx(0.04))


def test_the_whole_process_is_the_last_resort(clock: Clock) -> None:
    """A script without a step counts as one step, unless the request asks for keras."""
    pipe = Pipe()
    finder(pipe).script_ended(4.0)
    assert pipe.done["source"] == "process"
    assert next(e for e in pipe.events if e["event"] == "window")["duration_s"] == 4.0
    pipe = Pipe()
    finder(pipe, source="keras").script_ended(4.0)
    assert pipe.done["result"] == "no_steps"


def test_the_parent_may_end_a_measurement(clock: Clock) -> None:
    """The order takes effect with the first window after the warm-up."""
    read, write = os.pipe()
    pipe = Pipe()
    subject = finder(pipe, orders=OrderPipe(read))
    loop(clock, subject, ("keras", "fit"), steps=50)
    os.write(write, b"F")
    with pytest.raises(MeasurementComplete):
        loop(clock, subject, ("keras", "fit"))
    measured = [w for w in pipe.events if w["event"] == "window" and w["stage"] == MEASURE]
    assert len(measured) == 1
    assert pipe.done["complete"]
    os.close(write)


def test_a_cache_s_first_pass_is_warm_up(clock: Clock) -> None:
    """The first pass over a cache counts as warm-up; a notice reports if it takes too long."""
    pipe = Pipe()
    subject = finder(pipe)
    subject.cache_met("train.py:3")
    loop(clock, subject, ("keras", "fit"), steps=400)
    assert not any(w["stage"] == MEASURE for w in pipe.events if w["event"] == "window")
    subject.cache_iterated()
    with pytest.raises(MeasurementComplete):
        loop(clock, subject, ("keras", "fit"))
    assert [e["where"] for e in pipe.events if e["event"] == "notice"] == ["train.py:3"]
    pipe = Pipe()
    subject = finder(pipe)
    subject.cache_met("train.py:3")
    with pytest.raises(MeasurementComplete):
        loop(clock, subject, ("keras", "fit"))
    notices = [e["text"] for e in pipe.events if e["event"] == "notice"]
    assert "so the measurement includes it" in notices[-1]
