"""Duels of simulated processes: turns, the steps in them, CPU time, and the load of others."""

import itertools
import math
import types
from collections.abc import Callable
from typing import Any, cast

import pytest

from autotuner.options.study_spec import Objective
from autotuner.statistics.comparison import compare_rounds
from autotuner.statistics.throughput import Unit
from autotuner.trial import duel
from autotuner.trial.duel import (
    DuelPlan,
    DuelResult,
    Stretch,
    pause_limit,
    pauses_are_rare,
    place_steps,
    run_duel,
)
from autotuner.trial.live_trial import LiveTrial
from autotuner.trial.progress import Mark

PLAN = DuelPlan(slice_s=0.3, settle_s=0.06)
# two turns of 0.3 s with a stop of 0.3 s between them
TURNS = [Stretch(0.0, 0.3, 0.0), Stretch(0.6, 0.9, 0.0)]


def test_a_step_that_is_stopped_ran_only_in_its_turns() -> None:
    """A step of 0.05 s that is stopped for 0.3 s in its middle has run for 0.05 s."""
    mark = Mark(end_s=0.62, length_s=0.35, steps=1, samples=32)
    (placed,) = place_steps([mark], TURNS, PLAN)
    assert placed.length_s == pytest.approx(0.05)
    # the part before the stop counts; what comes after it is within the time of settling
    ((turn, counted),) = placed.counts
    assert turn == 0
    assert counted == pytest.approx(0.03)


def test_what_was_begun_before_the_duel_does_not_count() -> None:
    """Part of it ran before anybody looked."""
    mark = Mark(end_s=0.1, length_s=4.0, steps=1, samples=None)
    assert place_steps([mark], TURNS, PLAN) == []


def test_stops_make_no_pauses() -> None:
    """With 22 ms steps, one of thirteen is stopped in each turn; none of them is a pause."""
    marks, now = [], 0.0
    turns = [Stretch(0.6 * k, 0.6 * k + 0.3, 0.0) for k in range(10)]
    ran, begin = 0.0, 0.0
    for _ in range(130):
        ran += 0.0221
        turn, within = divmod(ran, 0.3)
        now = 0.6 * turn + within
        if now > turns[-1].end_s:
            break
        marks.append(Mark(end_s=now, length_s=now - begin, steps=1, samples=32))
        begin = now
    assert max(mark.length_s for mark in marks) > 10 * 0.0221
    lengths = [one.step_s for one in place_steps(marks, turns, PLAN)]
    assert lengths == pytest.approx([0.0221] * len(marks))
    assert not pauses_are_rare([lengths, lengths])


@pytest.mark.parametrize(
    ("pauses", "rare"), [(0, False), (1, True), (8, True), (20, False), (50, False)]
)
def test_pauses_are_left_out_where_they_are_rare(pauses: int, rare: bool) -> None:
    """Ends of epochs are; every tenth step that waits for its input is what there is to measure."""
    lengths = [0.02] * (200 - pauses) + [1.1] * pauses
    assert pauses_are_rare([lengths, [0.02] * 100]) is rare


def test_a_few_steps_tell_no_pauses() -> None:
    """With less than thirty steps nothing is known of what is usual."""
    assert pause_limit([0.02] * 29) == float("inf")
    assert pause_limit([0.02] * 30) == pytest.approx(0.2)


class Machine:
    """A machine with a clock; ``others``: CPUs that other processes use, by time."""

    def __init__(self, others: Callable[[float], float] = lambda now: 0.0) -> None:
        self.now = 1000.0
        self.cpu_s = 0.0
        self._others = others

    def pass_time(self, seconds: float, own_cores: float = 0.0) -> None:
        """Let time pass in which one side uses so many CPUs."""
        self.cpu_s += seconds * (own_cores + self._others(self.now))
        self.now += seconds


class Side:
    """A process that does one step after the other while it is not stopped.

    ``step_s``: running time of a step, by the time at which it begins. ``cores``: CPUs that the
    process uses. ``ends_after``: steps after which its script ends.
    """

    def __init__(
        self,
        machine: Machine,
        step_s: float | Callable[[float], float],
        *,
        cores: float = 1.0,
        ends_after: float = math.inf,
    ) -> None:
        self._machine = machine
        self._step_s = step_s if callable(step_s) else lambda now: step_s
        self._cores = cores
        self._ends_after = ends_after
        self._running_s = 0.0
        self._begun = machine.now
        self._left_s = self._step_s(machine.now)
        self.cpu_s = 0.0
        self.marks: list[Mark] = []
        self.turns: list[dict[str, Any]] = []

    @property
    def over(self) -> bool:
        return len(self.marks) >= self._ends_after

    def resume(self) -> float:
        return self._machine.now

    def stop(self) -> float:
        self.cpu_s = self._running_s * self._cores
        return self._machine.now

    def follow(self, until: Callable[[], bool], *, end_s: float) -> None:
        """Run until a time, and note when steps end, stops included, as a child does."""
        while self._machine.now < end_s - 1e-9 and not until():
            ran = min(self._left_s, end_s - self._machine.now)
            self._machine.pass_time(ran, self._cores)
            self._running_s += ran
            self._left_s -= ran
            if self._left_s <= 1e-9:
                now = self._machine.now
                self.marks.append(Mark(end_s=now, length_s=now - self._begun, steps=1, samples=4))
                self._begun, self._left_s = now, self._step_s(now)

    def forget_marks(self) -> None:
        self.marks.clear()

    def renew_deadline(self) -> None:
        pass

    def note(self, event: str, **fields: Any) -> None:
        self.turns.append(fields)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a quiet machine, whose clock duels read."""
    return machine_with(monkeypatch, lambda now: 0.0)


def machine_with(monkeypatch: pytest.MonkeyPatch, others: Callable[[float], float]) -> Machine:
    found = Machine(others)
    monkeypatch.setattr(duel, "time", types.SimpleNamespace(monotonic=lambda: found.now))
    monkeypatch.setattr(duel, "machine_cpu_s", lambda: found.cpu_s)
    return found


def meet(reference: Side, candidate: Side, plan: DuelPlan) -> DuelResult:
    """Run a duel to its end."""
    sides = cast(LiveTrial, reference), cast(LiveTrial, candidate)
    return run_duel(*sides, plan, lambda rounds: False)


def gain(result: DuelResult) -> float:
    found = compare_rounds(result.rounds, result.closing, Objective.THROUGHPUT, Unit.SAMPLES)
    assert found is not None
    return found.gain


@pytest.mark.parametrize("slow", [0.005, 0.05, 0.4])
def test_a_ratio_is_what_it_is(machine: Machine, slow: float) -> None:
    """Also of steps that are longer than a turn."""
    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=0.6)
    result = meet(Side(machine, 0.005), Side(machine, slow), plan)
    assert len(result.rounds) >= plan.least_rounds
    assert gain(result) == pytest.approx(0.005 / slow, rel=0.01)


def test_a_ratio_is_what_it_is_on_a_busy_machine(machine: Machine) -> None:
    """A load that comes and goes makes both sides slower by up to a half: the ratio stays."""

    def slowed(step_s: float) -> Callable[[float], float]:
        return lambda now: step_s * (1.5 + 0.5 * math.sin(now / 2))

    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=3.0)
    result = meet(Side(machine, slowed(0.005)), Side(machine, slowed(0.02)), plan)
    assert gain(result) == pytest.approx(0.25, rel=0.05)


def test_one_runs_while_the_other_stands(machine: Machine) -> None:
    """Turns alternate, begin with the reference and end with it, and do not overlap."""
    candidate = Side(machine, 0.01)
    meet(Side(machine, 0.01), candidate, DuelPlan(slice_s=0.1, settle_s=0.02, measure_s=0.8))
    names = [turn["side"] for turn in candidate.turns]
    assert names == ["reference", "candidate"] * (len(names) // 2) + ["reference"]
    times = [(turn["start_s"], turn["end_s"]) for turn in candidate.turns]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_steps_and_samples_are_shared_out_between_turns(machine: Machine) -> None:
    """All of a side's steps during the duel are in its turns, in parts where a stop cuts one."""
    plan = DuelPlan(slice_s=0.1, settle_s=0.0, measure_s=0.8)
    result = meet(Side(machine, 0.03), Side(machine, 0.03), plan)
    turns = [one.candidate for one in result.rounds]
    assert all(turn.samples == pytest.approx(4 * turn.steps) for turn in turns)
    # a step that began before the duel does not count, and of the last turn the end is not known
    for turn in turns[1:-1]:
        assert turn.duration_s == pytest.approx(turn.turn_s)
        assert turn.steps == pytest.approx(turn.duration_s / 0.03)


def test_cpu_time_of_each_side(machine: Machine) -> None:
    """CPU seconds are of the side whose turn it is; the other side's are not others' load."""
    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=0.6)
    result = meet(Side(machine, 0.005, cores=1.8), Side(machine, 0.005, cores=0.1), plan)
    for one in result.rounds:
        assert one.reference.cpu_s == pytest.approx(1.8 * one.reference.turn_s)
        assert one.candidate.cpu_s == pytest.approx(0.1 * one.candidate.turn_s)
    assert result.others_cores == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("busy", [0.0, 0.7, 1.0])
def test_load_of_others(monkeypatch: pytest.MonkeyPatch, busy: float) -> None:
    """What neither side used is what other processes used."""
    machine = machine_with(monkeypatch, lambda now: busy)
    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=0.6)
    result = meet(Side(machine, 0.005, cores=1.8), Side(machine, 0.005, cores=0.1), plan)
    assert result.others_cores == pytest.approx(busy, abs=1e-9)


@pytest.mark.parametrize("ends", ["reference", "candidate"])
def test_a_side_that_ends(machine: Machine, ends: str) -> None:
    """The duel is cut short; the rounds so far count, and the other side is as fast as before."""
    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=30)
    counts = {ends: 300.0}
    reference = Side(machine, 0.005, ends_after=counts.get("reference", math.inf))
    candidate = Side(machine, 0.005, ends_after=counts.get("candidate", math.inf))
    result = meet(reference, candidate, plan)
    assert reference.over is (ends == "reference")
    assert len(result.rounds) >= plan.least_rounds
    assert gain(result) == pytest.approx(1, rel=0.01)
    if ends == "candidate":
        again = meet(reference, Side(machine, 0.005), DuelPlan(slice_s=0.12, measure_s=0.6))
        assert gain(again) == pytest.approx(1, rel=0.01)
