"""Duels of real processes: turns, counts, failures, and that nothing is left.

What is measured depends on the machine's load: tests/unit/test_duel.py has the exact numbers, of
simulated processes.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from autotuner.options.study_spec import Objective, StepSource
from autotuner.statistics.comparison import Comparison, compare_rounds
from autotuner.statistics.throughput import Unit
from autotuner.trial.duel import DuelPlan
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import ProcessRunner
from tests.processes import left_of, living_with, wait_for
from tests.trials import QUICK

PLAN = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=0.6)

SLEEPS = """
import os, sys, time
from autotuner import step
while True:
    time.sleep(float(sys.argv[1]))
    step(samples=4)
"""

# each process writes when it runs, to a file of its own; one worker leaves the session
WORKERS = """
import multiprocessing, os, sys, time
from autotuner import step

def tell(name):
    with open(name, "a", buffering=1) as file:
        while True:
            file.write(f"{time.monotonic()}\\n")
            time.sleep(0.003)

def leave(name):
    os.setsid()
    tell(name)

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    for target, kind in ((tell, "worker"), (leave, "far")):
        name = f"{sys.argv[1]}.{kind}"
        fork.Process(target=target, args=(name,), daemon=True).start()
    while True:
        time.sleep(0.005)
        step()
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """Mark the environment of everything that the test starts."""
    text = uuid.uuid4().hex
    monkeypatch.setenv("MARK", text)
    return text


def request(folder: Path, text: str, *arguments: str, name: str = "script.py") -> TrialRequest:
    """Return a request for a script with this text."""
    path = folder / name
    path.write_text(text)
    return TrialRequest(
        script=path,
        python=Path(sys.executable),
        working_directory=folder,
        arguments=arguments,
        source=StepSource.STEP,
        timing=QUICK,
    )


def meet(
    folder: Path, reference: TrialRequest, candidate: TrialRequest, plan: DuelPlan = PLAN
) -> tuple[Outcome, Outcome]:
    """Let two scripts meet; return the outcomes of the reference and of the candidate."""
    runner = ProcessRunner(os.environ)
    with runner.reference(reference, folder / "reference") as resident:
        assert resident.failure is None
        outcome = runner.duel(resident, candidate, folder / "candidate", plan)
        return resident.close(), outcome


def compared(outcome: Outcome) -> Comparison:
    """Return what a duel shows."""
    found = compare_rounds(outcome.rounds, outcome.closing, Objective.THROUGHPUT, Unit.SAMPLES)
    assert found is not None
    return found


@pytest.mark.parametrize("slow", ["0.05", "0.4"])
def test_both_sides_are_measured(tmp_path: Path, mark: str, slow: str) -> None:
    """Sleeps of 5 ms against ones that are ten times as long, and against ones longer than a turn.

    Load makes sleeps longer by a few milliseconds, not by a factor of ten.
    """
    reference = request(tmp_path, SLEEPS, "0.005", name="a.py")
    candidate = request(tmp_path, SLEEPS, slow, name="b.py")
    ended, outcome = meet(tmp_path, reference, candidate)
    assert (ended.status, outcome.status) == (Status.MEASURED, Status.MEASURED)
    assert len(outcome.rounds) >= PLAN.least_rounds or slow == "0.4"
    assert 0 < compared(outcome).gain < 0.5
    assert [pid for pid in living_with(mark) if pid != os.getpid()] == []


def test_one_runs_while_the_other_stands(tmp_path: Path) -> None:
    """Workers are stopped with their parent, also those that have left its session."""
    meet(
        tmp_path,
        request(tmp_path, WORKERS, "r", name="a.py"),
        request(tmp_path, WORKERS, "c", name="b.py"),
    )
    events = (tmp_path / "candidate" / "events.jsonl").read_text().splitlines()
    turns = [json.loads(line) for line in events if '"turn"' in line]
    assert len(turns) >= 2 * PLAN.least_rounds
    for kind in ("worker", "far"):
        for side, mine in (("r", "reference"), ("c", "candidate")):
            lines = (tmp_path / f"{side}.{kind}").read_text().splitlines()
            times = [float(line) for line in lines if line]
            ran = {"candidate": 0, "reference": 0}
            for turn in turns:
                inside = [t for t in times if turn["start_s"] + 0.02 < t < turn["end_s"] - 0.01]
                ran[turn["side"]] += bool(inside)
            # on a busy machine a worker may not get a CPU in each of its turns
            assert ran.pop(mine) >= PLAN.least_rounds / 2, (kind, side)
            assert list(ran.values()) == [0], (kind, side)


def test_steps_samples_and_cpu_time_of_turns(tmp_path: Path) -> None:
    """Each is of the side whose turn it is: one computes, the other one sleeps."""
    busy = SLEEPS.replace("time.sleep(float(sys.argv[1]))", "sum(range(100_000))")
    reference = request(tmp_path, busy, name="a.py")
    candidate = request(tmp_path, SLEEPS, "0.005", name="b.py")
    ended, outcome = meet(tmp_path, reference, candidate)
    assert ended.status is Status.MEASURED
    for one in outcome.rounds:
        assert one.candidate.samples == pytest.approx(4 * one.candidate.steps)
        assert 0 < one.candidate.duration_s <= one.candidate.turn_s
    assert sum(one.reference.cpu_s for one in outcome.rounds) > 0
    assert outcome.cost.cores_used is not None
    assert ended.cost.cores_used is not None
    assert outcome.cost.cores_used < ended.cost.cores_used
    assert outcome.cost.others_cores is not None
    assert outcome.cost.others_cores >= 0


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("raise ValueError('no good')", Status.CRASHED),
        ("os._exit(3)", Status.CRASHED),
        ("os.kill(os.getpid(), 9)", Status.CRASHED),
        ("break", Status.MEASURED),
    ],
)
def test_a_candidate_that_ends_in_a_duel(
    tmp_path: Path, mark: str, end: str, status: Status
) -> None:
    """Its outcome is its own; the reference meets the next one."""
    ending = SLEEPS + "    if time.monotonic() - START > 1.5:\n        " + end + "\n"
    candidate = request(
        tmp_path, "import time\nSTART = time.monotonic()\n" + ending, "0.005", name="b.py"
    )
    runner = ProcessRunner(os.environ)
    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=30)
    reference = request(tmp_path, SLEEPS, "0.005", name="a.py")
    with runner.reference(reference, tmp_path / "reference") as resident:
        outcome = runner.duel(resident, candidate, tmp_path / "candidate", plan)
        assert outcome.status is status
        assert not outcome.reference_ended
        again = runner.duel(resident, reference, tmp_path / "again", PLAN)
        assert again.status is Status.MEASURED
        assert len(again.rounds) >= PLAN.least_rounds
    assert [pid for pid in living_with(mark) if pid != os.getpid()] == []


def test_a_reference_that_ends_in_a_duel(tmp_path: Path) -> None:
    """The duel is cut short and says so."""
    ending = SLEEPS.replace("while True", "for _ in range(300)")
    reference = request(tmp_path, ending, "0.005", name="a.py")
    candidate = request(tmp_path, SLEEPS, "0.005", name="b.py")
    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=30)
    ended, outcome = meet(tmp_path, reference, candidate, plan)
    assert outcome.reference_ended
    assert ended.status is outcome.status is Status.MEASURED


def test_a_resident_that_fails_says_why(tmp_path: Path) -> None:
    """A second process of a script may not start, as when a port is taken."""
    runner = ProcessRunner(os.environ)
    failing = request(tmp_path, "raise OSError('address in use')")
    with runner.reference(failing, tmp_path / "reference") as resident:
        assert resident.failure is not None
        assert "address in use" in resident.failure.reason
        assert resident.over


def test_a_candidate_that_hangs_in_a_duel(tmp_path: Path, mark: str) -> None:
    """It is given up at its deadline, which counts only its own running time."""
    hang = SLEEPS + "    if time.monotonic() - START > 1.0: time.sleep(600)\n"
    candidate = request(
        tmp_path, "import time\nSTART = time.monotonic()\n" + hang, "0.005", name="b.py"
    )
    timing = QUICK.__class__(**{**vars(QUICK), "measure_timeout_s": 2.0})
    candidate = candidate.__class__(**{**vars(candidate), "timing": timing})
    plan = DuelPlan(slice_s=0.12, settle_s=0.02, measure_s=30)
    _, outcome = meet(tmp_path, request(tmp_path, SLEEPS, "0.005", name="a.py"), candidate, plan)
    assert outcome.status is Status.TIMED_OUT
    assert [pid for pid in living_with(mark) if pid != os.getpid()] == []


# prints when the duel has begun
PARENT = """
import os, sys
from pathlib import Path
from autotuner.options.study_spec import StepSource, Timing
from autotuner.trial.duel import DuelPlan
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import ProcessRunner
folder = Path(sys.argv[1])
runner = ProcessRunner(os.environ)
timing = Timing(window_s=0.05, warmup_min_s=0.1, warmup_max_s=1.0, measure_s=0.3)
both = TrialRequest(script=folder / "script.py", python=Path(sys.executable), timing=timing,
                    working_directory=folder, arguments=("0.005",), source=StepSource.STEP)
with runner.reference(both, folder / "r") as resident:
    print("ready", flush=True)
    runner.duel(resident, both, folder / "c", DuelPlan(measure_s=600))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_stopped(tmp_path: Path, mark: str, number: signal.Signals) -> None:
    """A parent that dies in a duel takes both sides with it, the stopped one as well."""
    (tmp_path / "script.py").write_text(SLEEPS)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        events = tmp_path / "c" / "events.jsonl"
        wait_for(lambda: events.exists() and '"turn"' in events.read_text(), "a turn")
        assert len([p for p in living_with(mark) if p not in (os.getpid(), parent.pid)]) >= 4
        parent.send_signal(number)
        parent.wait(20)
    assert left_of(mark) == []


@pytest.mark.parametrize("fails", ["first", "second"])
def test_a_pair_of_which_one_fails(tmp_path: Path, mark: str, fails: str) -> None:
    """Its outcome says why; nothing is left of the other, which may be stopped."""
    good = request(tmp_path, SLEEPS, "0.005", name="good.py")
    bad = request(tmp_path, "raise OSError('address in use')", name="bad.py")
    order = (bad, good) if fails == "first" else (good, bad)
    folders = (tmp_path / "first", tmp_path / "second")
    first, second = ProcessRunner(os.environ).pair(order, folders, PLAN)
    failed = first if fails == "first" else second
    assert failed is not None
    assert "address in use" in failed.reason
    assert second is None or first.status is Status.MEASURED
    assert [pid for pid in living_with(mark) if pid != os.getpid()] == []
