"""Kills at every moment: no finished trial is lost, and no process is left.

Each chain is one study that is begun, killed, resumed, killed again ... and run to its end.
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
from tests.run_process import KILL, RunProcess, ended, role_phase, signal_all, trials_in

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
FEW: list[Moment] = [("default", START), ("search", MEASURE), ("final", MEASURE)]
"""What each way of killing meets: a start, a trial in turns or alone, and a pair."""
Kill = Callable[[RunProcess], None]
TRIALS = 4
"""The defaults, the recipe and two of the search."""


def the_parent(run: RunProcess) -> None:
    run.process.kill()


def both(run: RunProcess) -> None:
    signal_all([*run.descendants(), psutil.Process(run.process.pid)], KILL)


def the_warden_and_the_parent(run: RunProcess) -> None:
    run.warden().kill()
    run.process.kill()


def by_sigterm(run: RunProcess) -> None:
    run.process.terminate()


def by_ctrl_c_twice(run: RunProcess) -> None:
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    if run.process.poll() is None:
        run.process.send_signal(signal.SIGINT)


def wait_for(moment: Moment, run: RunProcess) -> None:
    """Follow a run to a moment."""
    role, when = moment
    match when:
        case "files" if role == "probe":
            run.until_file("probes/*/events.jsonl")
        case "files":
            run.until_file("studies/*/best.json")  # the report is written after it
        case "between":
            run.until(ended(role))
        case _:
            run.until(role_phase(role, when, run))


def check_nothing_lost(run: RunProcess, known: dict[int, object]) -> None:
    """Compare the database with the events before the kill; no process may be left."""
    assert left_of(run.mark) == []
    database = run.folder / ".autotune/studies.db"
    trials = trials_in(database) if database.exists() else {}
    for event in run.events:
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
    shorter = ["--trials", str(TRIALS), "--pairs", "1"]
    return ["--model", "train.py", "--study", "s", *quick, *shorter]


CHAINS: dict[str, tuple[Kill, list[Moment], list[str]]] = {
    "parent": (the_parent, EVERY_MOMENT, ["--sequential"]),
    "parent and children": (both, FEW, []),
    "warden and parent": (the_warden_and_the_parent, SOME[1:3], []),
    "SIGTERM": (by_sigterm, FEW, ["--sequential"]),
    "Ctrl-C twice": (by_ctrl_c_twice, FEW, []),
}


CODES = {
    "parent": (-9,),
    "parent and children": (-9,),
    "warden and parent": (-9,),
    "SIGTERM": (143,),
    "Ctrl-C twice": (
        130,
        -2,
    ),  # as the second may arrive just before it is ignored; a shell reports 130 for both
}


def run_chain(name: str, folder: Path) -> None:
    """Begin a study, kill it again and again, and run it to its end: each trial counts once."""
    kill, moments, more = CHAINS[name]
    command, known = [*arguments(folder), *more], dict[int, object]()
    mark = uuid.uuid4().hex
    for moment in moments:
        run = RunProcess(folder, *command, mark=mark)
        wait_for(moment, run)
        kill(run)
        assert run.end() in CODES[name], run.stderr
        check_nothing_lost(run, known)
    last = RunProcess(folder, *command, mark=mark)
    assert last.end() == 0, last.stderr
    check_nothing_lost(last, known)
    assert last.events[-1]["event"] == "result"

    trials = trials_in(folder / ".autotune/studies.db")
    assert {state for state, _ in trials.values()} <= {"COMPLETE", "PRUNED", "FAIL"}
    counted = [a["role"] for state, a in trials.values() if state == "COMPLETE"]
    assert counted.count("default") == 1
    assert sum(role in ("default", "recipe", "search") for role in counted) == TRIALS
    assert all(attributes["reason"] for state, attributes in trials.values() if state == "FAIL")
    for file in ("best.env", "best.py", "best.json", "report.html"):
        assert (folder / ".autotune/studies/s" / file).stat().st_size > 0


def run_without(what: str, folder: Path) -> None:
    """Kill a child or a warden at every moment: the run loses one trial each, and ends."""
    # two trials of the search are lost, and one is left for the race
    command, mark = [*arguments(folder), "--trials", str(TRIALS + 1)], uuid.uuid4().hex
    run = RunProcess(folder, *command, mark=mark)
    for moment in SOME[2:]:
        wait_for(moment, run)
        (run.child() if what == "child" else run.warden()).kill()
    assert run.end() == 0, run.stderr
    check_nothing_lost(run, {})
    assert run.events[-1]["event"] == "result"


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
