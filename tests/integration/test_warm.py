"""Trials that a warm parent forks: like started ones, never left behind, not used in doubt.

What is imported is a small module of the test's; real TensorFlow is in end_to_end/test_warm.py.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from autotuner.trial.fork_server import values_at_import
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import TrialRequest, WarmStart
from autotuner.trial.runner import ProcessRunner
from tests.commands import STUBBED_PATH, autotune
from tests.processes import left_of, wait_for
from tests.trials import QUICK, STEPS, forked_trials

WARM = WarmStart(modules=("heavy",), start_timeout_s=20)


class Place:
    """A folder with a script and a module to import, and a runner."""

    def __init__(self, folder: Path, runner: ProcessRunner) -> None:
        self.folder = folder
        self.runner = runner
        self.count = 0
        self._before = psutil.Process().children()  # also the parents that end_to_end/ shares

    def run(self, script: str, warm_start: WarmStart | None = WARM, **fields: object) -> Outcome:
        path = self.folder / "script.py"
        path.write_text(script)
        request = TrialRequest(
            script=path,
            python=Path(sys.executable),
            working_directory=self.folder,
            timing=QUICK,
            warm_start=warm_start,
            **fields,  # type: ignore[arg-type]
        )
        self.count += 1
        return self.runner.run(request, self.folder / f"trial-{self.count}")

    def parents(self) -> list[psutil.Process]:
        """Return the warm parents that live now."""
        wardens = [one for one in psutil.Process().children() if one not in self._before]
        below = [child for warden in wardens for child in warden.children()]
        return [process for process in below if "--warm" in process.cmdline()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str) -> Iterator[Place]:
    """Return a folder, and check that every process started there is gone."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "heavy.py").write_text("import os\nIMPORTED_BY = os.getpid()\n")
    with ProcessRunner(os.environ) as runner:
        yield Place(tmp_path, runner)
    assert left_of(mark) == []


def test_a_forked_trial_is_measured(place: Place) -> None:
    """The import happens once; every trial is a process of its own, in a session of its own."""
    script = (
        "import heavy, os, sys, json\n"
        "pid, session = os.getpid(), os.getsid(0)\n"
        "seen = [heavy.IMPORTED_BY, pid, session, os.getcwd(), sys.argv, sys.path[0]]\n"
        "print(json.dumps(seen))\n" + STEPS
    )
    seen = []
    for _ in range(3):
        outcome = place.run(script, arguments=("a", "b c"))
        assert outcome.status is Status.MEASURED, outcome.reason
        assert outcome.facts.forked
        assert outcome.cold_reason == ""
        seen.append(json.loads(outcome.log.read_text().splitlines()[0]))
    assert len({one[0] for one in seen}) == 1
    assert len({one[1] for one in seen}) == 3
    for _, pid, session, folder, argv, path in seen:
        assert pid == session
        assert folder == path == str(place.folder)
        assert argv == [str(place.folder / "script.py"), "a", "b c"]
    assert len(place.parents()) == 1


def test_a_trial_ends_like_any_process(place: Place) -> None:
    """Its finally blocks and atexit handlers run; standard input is empty; prints are logged."""
    script = (
        "import atexit, sys\natexit.register(print, 'at exit')\nprint(repr(sys.stdin.read()))\n"
        "try:\n" + STEPS.replace("\n", "\n    ") + "\nfinally:\n    print('finally')\n"
    )
    outcome = place.run(script)
    assert outcome.status is Status.MEASURED, outcome.reason
    assert outcome.log.read_text().split() == ["''", "finally", "at", "exit"]
    assert (outcome.exit_code, outcome.signal) == (0, None)


def test_the_environment_is_the_trials(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of knobs are set and taken away as in a started process."""
    script = "import os\nprint(sorted((k, v) for k, v in os.environ.items()))\n" + STEPS
    configurations = [{"intra_op": 3}, {}, {"inter_op": 2, "cpus": "0"}]
    for configuration in configurations:
        printed = []
        for warm_start in (WARM, None):
            outcome = place.run(script, warm_start, configuration=configuration)
            assert outcome.facts.forked is (warm_start is not None)
            found = outcome.log.read_text().splitlines()[0]
            printed.append([kv for kv in eval(found) if kv[0] != "AUTOTUNE_TRIAL_MARK"])
        assert printed[0] == printed[1]
    assert len(place.parents()) == 1


def test_settings_read_at_import_have_a_parent_each(place: Place) -> None:
    """What a fork can't change any more is set before the import."""
    script = "import heavy\nprint(heavy.SEEN)\n" + STEPS
    (place.folder / "heavy.py").write_text(
        "import os\nSEEN = os.environ.get('TF_ENABLE_ONEDNN_OPTS')"
    )
    for value in ("0", "1", "0"):
        outcome = place.run(script, configuration={"onednn": value, "intra_op": 1})
        assert outcome.facts.forked
        assert outcome.log.read_text().splitlines()[0] == value
    assert len(place.parents()) == 2
    for number in range(8):
        place.run(STEPS, configuration={"omp_num_threads": number + 1})
    assert len(place.parents()) <= 4


def test_which_settings_are_read_at_import() -> None:
    """Threads and tf.data are read later; libraries, preloads and oneDNN's switch are not."""
    everything: dict[str, int | str] = {
        "intra_op": 1,
        "map_parallelism": "4",
        "cpus": "0",
        "onednn": "0",
        "allocator": "/x.so",
        "malloc_arenas": "1",
        "kmp_blocktime": "0",
        "onednn_isa": "AVX2",
    }
    assert set(values_at_import(everything)) == {
        "onednn",
        "allocator",
        "malloc_arenas",
        "kmp_blocktime",
    }


THREAD = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()"
)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (THREAD, "started 1 thread"),
        ("1 / 0", "ZeroDivisionError"),
        ("import os; os._exit(3)", "ended by itself"),
    ],
)
def test_a_parent_that_can_not_fork(place: Place, module: str, reason: str) -> None:
    """The trial is started instead, and so are all after it."""
    (place.folder / "heavy.py").write_text(module)
    for _ in range(2):
        outcome = place.run(STEPS)
        assert outcome.status is Status.MEASURED, outcome.reason
        assert not outcome.facts.forked
        assert reason in outcome.cold_reason
    assert place.parents() == []


@pytest.mark.parametrize("fault", ["time.sleep(99)", "os.abort()"])
def test_a_fork_that_hangs_or_crashes(place: Place, fault: str) -> None:
    """What fails because it was forked is run again, as a started process; no more forks then."""
    script = (
        "import heavy, os, time\nif heavy.IMPORTED_BY != os.getpid():\n    " + fault + "\n" + STEPS
    )
    warm_start = dataclasses.replace(WARM, start_timeout_s=1)
    outcome = place.run(script, warm_start)
    assert outcome.status is Status.MEASURED, outcome.reason
    assert not outcome.facts.forked
    assert "a started one did not" in outcome.cold_reason


def test_a_script_that_fails_both_ways_is_no_fault_of_the_fork(place: Place) -> None:
    """A configuration that crashes is no reason not to fork."""
    outcome = place.run("import heavy\nraise ValueError('no good')")
    assert outcome.status is Status.CRASHED
    assert "no good" in outcome.reason
    assert outcome.cold_reason == ""
    assert place.run(STEPS).facts.forked


def test_many_forks_leave_the_parent_as_it_was(place: Place) -> None:
    """No descriptor, thread, process or memory stays behind with a trial."""
    counts = []
    for _ in range(25):
        assert place.run("pass").facts.forked
        (parent,) = place.parents()
        counts.append((parent.num_fds(), parent.num_threads(), parent.memory_info().rss >> 20))
    assert counts[2:] == [counts[2]] * len(counts[2:])
    wait_for(lambda: len(place.parents()[0].children()) == 0, "ended wardens are collected")


MAIN = """
import os, sys
from pathlib import Path
from autotuner.trial.request import TrialRequest, WarmStart
from autotuner.trial.runner import ProcessRunner
from tests.trials import QUICK
folder = Path(sys.argv[1])
warm = WarmStart(modules=("heavy",), start_timeout_s=20)
with ProcessRunner(os.environ) as runner:
    print(runner.run(TrialRequest(
        script=folder / "script.py", python=Path(sys.executable), working_directory=folder,
        timing=QUICK, warm_start=warm), folder / "trial").status.value)
"""
ESCAPES = """
import heavy, os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
if not os.fork():
    os.setsid()
    if not os.fork():
        time.sleep(600)
    os._exit(0)
open("ready", "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["tool", "parent", "warden", "trial", "parent's warden"])
def test_kill_minus_nine_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, victim: str
) -> None:
    """After a kill by -9 nothing survives: no daemon of the script's, no parent."""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    (tmp_path / "heavy.py").write_text("")
    (tmp_path / "script.py").write_text(ESCAPES)
    tool = subprocess.Popen([sys.executable, "-c", MAIN, str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        wait_for(
            lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text(), "forked"
        )
        trial = psutil.Process(int((tmp_path / "ready").read_text()))
        warden = trial.parent()
        assert warden is not None
        parent = warden.parent()
        assert parent is not None
        its_warden = parent.parent()
        assert its_warden is not None
        assert its_warden.ppid() == tool.pid
        pid = {
            "tool": tool.pid,
            "parent": parent.pid,
            "warden": warden.pid,
            "trial": trial.pid,
            "parent's warden": its_warden.pid,
        }[victim]
        os.kill(pid, signal.SIGKILL)
        (tmp_path / "script.py").write_text("")  # if it is run again, it ends at once
        tool.wait(timeout=60)
        assert left_of(mark) == []
    finally:
        tool.kill()
        tool.wait()


def test_ctrl_c_ends_parent_and_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    """An interrupted run leaves no warm parent."""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    (tmp_path / "heavy.py").write_text("")
    (tmp_path / "script.py").write_text(ESCAPES)
    tool = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal\nsignal.signal(2, signal.default_int_handler)\n" + MAIN,
            str(tmp_path),
        ],
        stderr=subprocess.DEVNULL,
    )
    wait_for((tmp_path / "ready").exists, "forked")
    time.sleep(0.05)
    tool.send_signal(signal.SIGINT)
    tool.wait(timeout=30)
    assert left_of(mark) == []


def test_which_trials_of_a_study_are_forked(tmp_path: Path) -> None:
    """The search is forked; the defaults, the noise check and the final are not."""
    (tmp_path / "keras.py").write_text("")  # a name that a warm parent imports
    (tmp_path / "train.py").write_text("import keras\n" + STEPS)
    environment = {"PYTHONPATH": f"{tmp_path}:{STUBBED_PATH}"}
    line = ["run", "--model", "train.py", "--knobs", "intra_op,inter_op", "--trials", "5"]
    line += ["--warm", "on", "--sequential", "--effort", "fast", "--measure-time", "0.3s"]
    done = autotune(*line, "--pairs", "1", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "warm start on" in done.stderr
    report = autotune("report", "train", "--format", "md", cwd=tmp_path)
    assert "Where the time went" in report.stdout
    forked = forked_trials(tmp_path / ".autotune/studies/train/trials")
    assert [forked[0], forked[1]] == [False, False]
    assert forked[max(forked)] is False
    assert sum(forked.values()) >= 3
