"""Whatever is killed, and whenever: no finished trial is lost, nothing goes on running.

Each chain is one study that is begun, killed, gone on with, killed again ... and run to its end.
"""

import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from traceback import format_exception

import psutil
import pytest

from tests.commands import QUICK, SCRIPT
from tests.processes import left_of
from tests.run_process import KILL, Sitting, ended, role_phase, signal_all, trials_in

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
    assert left_of(sitting.mark) == []
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
    quick = ["balanced" if word == "fast" else word for word in QUICK]  # fast has no race
    return ["--model", "train.py", "--study", "s", *quick]


CHAINS: dict[str, tuple[Kill, list[Moment], list[str]]] = {
    "parent": (the_parent, EVERY_MOMENT, ["--sequential"]),
    "parent and children": (both, SOME, []),
    "warden and parent": (the_warden_and_the_parent, SOME[1:4], []),
    "SIGTERM": (by_sigterm, SOME, ["--sequential"]),
    "Ctrl-C twice": (by_ctrl_c_twice, SOME, []),
}


CODES = {
    "parent": (-9,),
    "parent and children": (-9,),
    "warden and parent": (-9,),
    "SIGTERM": (143,),
    "Ctrl-C twice": (130, -2),  # as it may come just before we ignore it; a shell says 130 to both
}


def run_chain(name: str, folder: Path) -> None:
    """Begin a study, kill it again and again, and run it to its end: each trial counts once."""
    kill, moments, more = CHAINS[name]
    command, known = [*arguments(folder), *more], dict[int, object]()
    mark = uuid.uuid4().hex
    for moment in moments:
        sitting = Sitting(folder, *command, mark=mark)
        wait_for(moment, sitting)
        kill(sitting)
        assert sitting.end() in CODES[name], sitting.said
        check_nothing_lost(sitting, known)
    last = Sitting(folder, *command, mark=mark)
    assert last.end() == 0, last.said
    check_nothing_lost(last, known)
    assert last.events[-1]["event"] == "result"

    trials = trials_in(folder / ".autotune/studies.db")
    assert {state for state, _ in trials.values()} <= {"COMPLETE", "PRUNED", "FAIL"}
    counted = [a["role"] for state, a in trials.values() if state == "COMPLETE"]
    assert counted.count("default") == 1
    assert sum(role in ("default", "recipe", "search") for role in counted) == 5
    assert all(attributes["reason"] for state, attributes in trials.values() if state == "FAIL")
    for file in ("best.env", "best.py", "best.json", "report.html"):
        assert (folder / ".autotune/s" / file).stat().st_size > 0


def run_without(what: str, folder: Path) -> None:
    """Kill a child or a warden at every moment: it costs one trial, the run goes on to its end."""
    command, mark = arguments(folder), uuid.uuid4().hex
    sitting = Sitting(folder, *command, mark=mark)
    for moment in SOME[2:]:
        wait_for(moment, sitting)
        (sitting.child() if what == "child" else sitting.warden()).kill()
    assert sitting.end() == 0, sitting.said
    check_nothing_lost(sitting, {})
    assert sitting.events[-1]["event"] == "result"


@pytest.mark.long
def test_killed_at_every_moment(tmp_path: Path) -> None:
    """All chains at once, each in a folder of its own: their processes mostly sleep."""
    runs: dict[str, Callable[[str, Path], None]] = {
        **dict.fromkeys(CHAINS, run_chain),
        **dict.fromkeys(("child", "warden"), run_without),
    }
    failed = []
    with ThreadPoolExecutor(len(runs)) as pool:
        futures = {}
        for name, run in runs.items():
            folder = tmp_path / name.replace(" ", "-")
            folder.mkdir()
            futures[name] = pool.submit(run, name, folder)
        for name, future in futures.items():
            if error := future.exception():
                failed.append(f"{name}: {error!r}\n{''.join(format_exception(error)[-3:])}")
    assert not failed, "\n".join(failed)
    kills = sum(len(moments) for _, moments, _ in CHAINS.values()) + 2 * len(SOME[2:])
    assert kills >= 30
