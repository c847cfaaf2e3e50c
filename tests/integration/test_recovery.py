"""Whatever is killed, and whenever: no finished trial is lost, nothing goes on running.

Each chain is one study that is begun, killed, gone on with, killed again ... and run to its end.
"""

import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import living_with
from tests.integration.sitting import (
    KILL,
    QUICK,
    SCRIPT,
    Sitting,
    ended,
    role_phase,
    signal_all,
    trials_in,
)

START, WARMUP, MEASURE, BETWEEN, FILES = "start", "warm-up", "measurement", "between", "files"
Moment = tuple[str, str]
EVERY_MOMENT: list[Moment] = [
    ("probe", FILES),
    ("default", START),
    ("default", WARMUP),
    ("default", MEASURE),
    ("default", BETWEEN),
    ("control", MEASURE),
    ("search", START),
    ("search", WARMUP),
    ("search", MEASURE),
    ("search", BETWEEN),
    ("race", MEASURE),
    ("final", MEASURE),
    ("final", BETWEEN),
    ("export", FILES),
]
SOME: list[Moment] = [m for m in EVERY_MOMENT if m[1] in (START, MEASURE)]
Kill = Callable[[Sitting], None]


def the_parent(sitting: Sitting) -> None:
    sitting.process.kill()


def both(sitting: Sitting) -> None:
    signal_all([*sitting.family(), psutil.Process(sitting.process.pid)], KILL)


def the_warden_and_the_parent(sitting: Sitting) -> None:
    sitting.warden().kill()
    sitting.process.kill()


def by_sigterm(sitting: Sitting) -> None:
    sitting.process.terminate()


def by_ctrl_c_twice(sitting: Sitting) -> None:
    sitting.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    if sitting.process.poll() is None:
        sitting.process.send_signal(signal.SIGINT)


def wait_for(moment: Moment, sitting: Sitting) -> None:
    """Follow a sitting to a moment."""
    role, when = moment
    match when:
        case "files" if role == "probe":
            sitting.until_file("*/probe/events.jsonl")
        case "files":
            sitting.until_file("*/best.json")  # the report is written after it
        case "between":
            sitting.until(ended(role))
        case _:
            sitting.until(role_phase(role, when, sitting))


def check_nothing_lost(sitting: Sitting, known: dict[int, object]) -> None:
    """Hold the database against what was heard before the kill; nothing may go on running."""
    deadline = time.monotonic() + 10
    while living_with(sitting.mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert living_with(sitting.mark) == []
    database = sitting.folder / ".autotune/studies.db"
    trials = trials_in(database) if database.exists() else {}
    for event in sitting.events:
        if event["event"] == "trial_ended" and event["gain"] is not None:
            known[event["number"]] = event["gain"]
    for number, gain in known.items():
        state, attributes = trials[number]
        assert state == "COMPLETE"
        assert attributes["gain"] == gain


def arguments(folder: Path) -> list[str]:
    script = folder / "train.py"
    script.write_text(SCRIPT)
    return ["--model", "train.py", "--study", "s", *QUICK]


@pytest.mark.parametrize(
    ("kill", "moments"),
    [
        (the_parent, EVERY_MOMENT),
        (both, SOME),
        (the_warden_and_the_parent, SOME[1:4]),
        (by_sigterm, SOME),
        (by_ctrl_c_twice, SOME),
    ],
)
def test_killed_at_every_moment(kill: Kill, moments: list[Moment], tmp_path: Path) -> None:
    """A study that is killed again and again comes to its end, with each trial counted once."""
    command, known = arguments(tmp_path), dict[int, object]()
    mark = uuid.uuid4().hex
    for moment in moments:
        sitting = Sitting(tmp_path, *command, mark=mark)
        wait_for(moment, sitting)
        kill(sitting)
        sitting.end()
        check_nothing_lost(sitting, known)
    last = Sitting(tmp_path, *command, mark=mark)
    assert last.end() == 0, last.said
    check_nothing_lost(last, known)
    assert last.events[-1]["event"] == "result"

    trials = trials_in(tmp_path / ".autotune/studies.db")
    ended_states = {"COMPLETE", "PRUNED", "FAIL"}
    assert {state for state, _ in trials.values()} <= ended_states
    counted = [a["role"] for state, a in trials.values() if state == "COMPLETE"]
    assert counted.count("default") == 1
    assert sum(role in ("default", "recipe", "search") for role in counted) == 5
    for state, attributes in trials.values():
        if state == "FAIL":
            assert attributes["reason"]
    for name in ("best.env", "best.py", "best.json", "report.html"):
        assert (tmp_path / ".autotune/s" / name).stat().st_size > 0


@pytest.mark.parametrize("what", ["child", "warden"])
def test_the_study_goes_on_without_them(what: str, tmp_path: Path) -> None:
    """A child or a warden that is killed costs one trial; the run itself goes on to its end."""
    command, mark = arguments(tmp_path), uuid.uuid4().hex
    sitting = Sitting(tmp_path, *command, mark=mark)
    for moment in SOME[2:]:
        wait_for(moment, sitting)
        (sitting.child() if what == "child" else sitting.warden()).kill()
    assert sitting.end() == 0, sitting.said
    check_nothing_lost(sitting, {})
    assert sitting.events[-1]["event"] == "result"
