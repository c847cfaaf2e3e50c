"""What is measured before the search, from records alone."""

import dataclasses
import math
from pathlib import Path

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import Pairing
from autotuner.stages.guard import check_numerics
from autotuner.stages.prepare import noise_of, run_controls, script_failed
from autotuner.study.lab import choose_design
from autotuner.study.noise import Design, Method
from autotuner.study.record import Role, TrialRecord
from autotuner.trial.outcome import Notice, Outcome, Phase, Status
from tests.plans import FACTS, trial

DUEL = Design(method=Method.DUEL, slice_s=0.3)
GIB = 2.0**30
SHORT = Notice(kind="short", where="", text="")


def control(gain: float | None, **fields: object) -> TrialRecord:
    """Return a further trial of the defaults."""
    return trial(1, Role.CONTROL, {}, gain, **fields)


def test_noise_is_the_spread_of_processes() -> None:
    """In duels the reference counts as a process; without duels there is none."""
    controls = [control(math.exp(0.02)), control(math.exp(-0.02))]
    noise = noise_of(trial(0, Role.DEFAULT), controls, DUEL, ())
    assert noise.between == pytest.approx(0.02)
    assert noise.processes == 4
    assert noise.design == DUEL
    alone = noise_of(trial(0, Role.DEFAULT), controls, Design(why="as requested"), ())
    assert alone.processes == 3
    assert (alone.method, alone.why) == (Method.SEQUENTIAL, "as requested")


def test_a_failed_control_does_not_count() -> None:
    """The noise depends on the other controls."""
    noise = noise_of(trial(0, Role.DEFAULT), [control(1.02), control(None)], DUEL, ())
    assert noise.processes == 3


def test_duels_are_given_up_if_the_defaults_fail_in_them() -> None:
    """The control runs again without a duel, and so do further controls."""
    asked: list[Method] = []

    def run(design: Design) -> tuple[TrialRecord, Design]:
        asked.append(design.method)
        fails = design.method is Method.DUEL
        return control(None if fails else 1.0, reason="lost its connection"), design

    controls, design = run_controls(2, DUEL, run)
    assert asked == [Method.DUEL, Method.SEQUENTIAL, Method.SEQUENTIAL]
    assert [record.gain for record in controls] == [1.0, 1.0]
    assert "lost its connection" in design.why


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"asked": Pairing.SEQUENTIAL}, "as requested"),
        ({"facts": dataclasses.replace(FACTS, source="process")}, "timed as a whole"),
        ({"step_s": 2.0}, "2.0 s are longer than a turn"),
        ({"room_bytes": GIB}, "memory does not hold two"),
        (
            {"facts": dataclasses.replace(FACTS, notices=(SHORT,))},
            "too short for duels",
        ),
    ],
)
def test_duels_where_they_can_work(fields: dict[str, object], why: str) -> None:
    """Otherwise the design holds the reason."""
    asked: dict[str, object] = {"asked": Pairing.AUTO, "facts": FACTS}
    sizes = {"step_s": 0.01, "peak_bytes": GIB, "room_bytes": 8 * GIB}
    design = choose_design(**{**asked, **sizes, **fields})  # type: ignore[arg-type]
    assert (design.method is Method.DUEL) is (why == "")
    assert why in design.why


def test_a_turn_holds_a_few_steps() -> None:
    """A turn lasts at least 0.3 s and at most 2 s."""
    for step_s, slice_s in ((0.001, 0.3), (0.2, 0.8), (0.9, 2.0)):
        design = choose_design(
            Pairing.AUTO, FACTS, step_s=step_s, peak_bytes=GIB, room_bytes=8 * GIB
        )
        assert design.slice_s == pytest.approx(slice_s)


def outcome(*values: float, status: Status = Status.MEASURED) -> Outcome:
    """Return the outcome of a run that has computed some values."""
    return Outcome(status=status, folder=Path("x"), values=(values,) if values else ())


def test_the_guard_compares_with_two_runs_of_the_defaults() -> None:
    """The configuration runs once, without the knobs that change its samples."""
    asked: list[tuple[str, Configuration]] = []

    def run(name: str, values: Configuration) -> Outcome:
        asked.append((name, values))
        return outcome(0.6 if name == "best" else 0.5)

    best: Configuration = {"onednn": "0", "steps_per_execution": "16"}
    found = check_numerics(best, {"onednn": "1", "steps_per_execution": "1"}, run)
    assert found.differs
    assert asked == [("default", {}), ("default-again", {}), ("best", {"onednn": "0"})]


def test_the_guard_runs_nothing_where_nothing_can_differ() -> None:
    """The number of threads of the input pipeline does not change results."""

    def run(name: str, values: Configuration) -> Outcome:
        raise AssertionError(name)

    found = check_numerics({"data_threads": "8"}, {"data_threads": "auto"}, run)
    assert found.differs is False


def test_the_guard_reports_what_it_can_not_compare() -> None:
    """A run that fails, or computes nothing, proves neither."""
    default: Configuration = {"onednn": "1"}
    for failed in (outcome(), outcome(1.0, status=Status.CRASHED)):

        def run(name: str, values: Configuration, failed: Outcome = failed) -> Outcome:
            return failed

        found = check_numerics({"onednn": "0"}, default, run)
        assert found.differs is None
        assert "could not be compared" in found.text


@pytest.mark.parametrize(
    ("status", "phase", "text"),
    [
        (Status.TIMED_OUT, Phase.WARMUP, "--warmup-timeout gives it longer"),
        (Status.NO_STEPS, Phase.MEASURE, "see --phase and --measure"),
        (Status.CRASHED, Phase.START, "repeat it: sh"),
    ],
)
def test_a_failure_of_the_defaults_names_the_way_out(
    status: Status, phase: Phase, text: str
) -> None:
    """The hint depends on how they failed."""
    error = script_failed(
        Outcome(status=status, phase=phase, folder=Path("x"), reason="r", last_lines=("boom",))
    )
    assert text in (error.hint or "")
