"""Real children that misbehave: each gives its outcome, and no process is left."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from autotuner.options.study_spec import StepSource
from autotuner.trial.outcome import Outcome, Phase, Status
from autotuner.trial.runner import ProcessRunner
from tests.processes import living_with, wait_for
from tests.trials import QUICK, STEPS, RunScript


def others(mark: str) -> list[int]:
    """Return the marked processes besides this one."""
    return [pid for pid in living_with(mark) if pid != os.getpid()]


def test_explicit_steps_are_measured(run_script: RunScript, mark: str) -> None:
    """A script that marks its steps is measured without TensorFlow's help."""
    outcome = run_script(STEPS)
    assert outcome.status is Status.MEASURED, outcome.reason
    assert (outcome.source, outcome.complete, outcome.warm) == ("step", True, True)
    measured = [window for window in outcome.windows if not window.warmup]
    assert measured
    assert all(window.samples == 4 * window.steps for window in measured)
    assert others(mark) == []


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        ("raise ValueError('no good')", Status.CRASHED, "no good"),
        ("import sys; sys.exit(7)", Status.CRASHED, "exit code 7"),
        ("import os; os._exit(0)", Status.CRASHED, "without a result"),
        ("import os; os._exit(5)", Status.CRASHED, "exit code 5"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Status.CRASHED, "SIGSEGV"),
        ("raise MemoryError('full')", Status.OUT_OF_MEMORY, "full"),
        ("print('no TensorFlow here')", Status.REJECTED, "without importing TensorFlow"),
        ("def broken(:\n  pass", Status.REJECTED, "script.py:1"),
    ],
)
def test_each_end_has_its_outcome(
    run_script: RunScript, mark: str, script: str, status: Status, text: str
) -> None:
    """Whatever ends a script, the outcome says so and where to look."""
    outcome = run_script(script)
    assert outcome.status is status
    assert text in outcome.reason
    assert others(mark) == []


def test_a_crash_shows_the_last_lines(run_script: RunScript) -> None:
    """The traceback is the script's own, without a frame of ours, and its end is at hand."""
    outcome = run_script("import sys\nprint('before')\nraise ValueError('no good')")
    log = outcome.log.read_text()
    assert "before" in log
    assert "_autotune_child" not in log
    assert "child/" not in log
    assert outcome.last_lines[-1] == "ValueError: no good"
    assert outcome.reason.startswith(str(outcome.folder.parent / "script.py") + ":3")


@pytest.mark.parametrize(
    ("phase", "script"),
    [
        (Phase.START, "import time; time.sleep(600)"),
        (Phase.WARMUP, "from autotuner import step; import time; step(); time.sleep(600)"),
        (
            Phase.MEASURE,
            "from autotuner import step; import time\n"
            "start = time.monotonic()\n"
            "while time.monotonic() < start + 1.5: time.sleep(0.01); step()\n"
            "time.sleep(600)",
        ),
    ],
)
def test_a_hang_is_ended_in_its_phase(
    run_script: RunScript, mark: str, phase: Phase, script: str
) -> None:
    """A script that stops making progress is killed at the deadline of the phase it is in."""
    timing = replace(
        QUICK,
        start_timeout_s=1,
        warmup_timeout_s=2,
        measure_timeout_s=2,
        measure_s=30,
        grace_s=1,
    )
    outcome = run_script(script, timing=timing)
    assert (outcome.status, outcome.phase) == (Status.TIMED_OUT, phase)
    assert phase.value in outcome.reason
    assert others(mark) == []


def test_sigterm_is_no_protection(run_script: RunScript, mark: str) -> None:
    """A script that ignores SIGTERM is killed after the grace time."""
    timing = replace(QUICK, start_timeout_s=1, grace_s=0.5)
    script = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True: time.sleep(1)"
    )
    outcome = run_script(script, timing=timing)
    assert (outcome.status, outcome.signal) == (Status.TIMED_OUT, signal.SIGKILL)
    assert others(mark) == []


ORPHANS = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep)                            # a child
subprocess.Popen(sleep, start_new_session=True)    # a child in a session of its own
if os.fork() == 0:                                 # a daemon: forked twice, its own session
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
"""


@pytest.mark.parametrize("ending", [STEPS, "time.sleep(600)", "os._exit(0)", "1/0"])
def test_what_a_script_starts_dies_with_it(run_script: RunScript, mark: str, ending: str) -> None:
    """Children, daemons and processes in other sessions are gone when the trial is over."""
    timing = replace(QUICK, start_timeout_s=3, grace_s=0.5)
    run_script(ORPHANS + ending, timing=timing)
    assert others(mark) == []


def test_a_forked_copy_does_not_count(run_script: RunScript, mark: str) -> None:
    """A process that the script forks may run the loop too; only the script's own is measured."""
    script = "import os\nos.fork()\nPID = os.getpid()\n" + STEPS.replace("4", "(PID % 7) + 1")
    outcome = run_script(script)
    assert outcome.status is Status.MEASURED
    assert (
        len({window.samples // window.steps for window in outcome.windows if window.samples}) == 1
    )
    assert others(mark) == []


def test_memory_is_guarded_before_it_runs_out(run_script: RunScript, mark: str) -> None:
    """A script that eats the machine's memory is stopped while there is some left."""
    floor = psutil.virtual_memory().available - 600 * 2**20
    script = (
        "blocks = []\nimport time\n"
        "for _ in range(2000):\n    blocks.append(bytearray(b'x') * 2**24)\n    time.sleep(0.01)"
    )
    outcome = run_script(script, runner=ProcessRunner(os.environ, memory_floor_bytes=floor))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert others(mark) == []


def test_finally_and_atexit_run_at_the_end(
    run_script: RunScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the measurement is complete the script is unwound, not killed."""
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    script = (
        "import atexit, os, pathlib\nmarker = pathlib.Path(os.environ['MARKER'])\n"
        "atexit.register(lambda: marker.with_suffix('.atexit').touch())\n"
        "try:\n" + STEPS.replace("\n", "\n    ") + "\n"
        "finally:\n    marker.touch()\n"
    )
    outcome = run_script(script)
    assert outcome.status is Status.MEASURED
    assert (tmp_path / "marker").exists()
    assert (tmp_path / "marker.atexit").exists()


def test_steps_in_a_finally_block_do_not_cut_it_short(
    run_script: RunScript, tmp_path: Path
) -> None:
    """Cleaning up may use what is being measured."""
    script = f"try:\n{STEPS.replace(chr(10), chr(10) + '    ')}\nfinally:\n    step()\n"
    script += f"    open({str(tmp_path / 'clean')!r}, 'w').close()\n"
    assert run_script(script).status is Status.MEASURED
    assert (tmp_path / "clean").exists()


def test_a_loop_in_a_thread_is_unwound_too(run_script: RunScript, mark: str) -> None:
    """Steps in another thread count, and the main thread ends as well."""
    script = (
        "import threading, time\ndef work():\n"
        + STEPS.replace("\n", "\n    ")
        + "\nthreading.Thread(target=work, daemon=True).start()\nwhile True: time.sleep(0.01)"
    )
    outcome = run_script(script)
    assert (outcome.status, outcome.exit_code) == (Status.MEASURED, 0)
    assert others(mark) == []


def test_a_script_that_will_not_end_is_measured_all_the_same(
    run_script: RunScript, mark: str
) -> None:
    """A bare except swallows the unwinding; the result is in, and the process is killed."""
    script = (
        "from autotuner import step\nimport time\nwhile True:\n    try:\n"
        "        time.sleep(0.002); step()\n    except: pass"
    )
    outcome = run_script(script, timing=replace(QUICK, grace_s=0.5))
    assert outcome.status is Status.MEASURED
    assert others(mark) == []


def test_output_cannot_disturb_the_protocol(run_script: RunScript) -> None:
    """Forged events on standard output and binary garbage end in the log and nowhere else."""
    script = (
        "import os, sys\n"
        'sys.stdout.buffer.write(b\'{"event": "done"}\\n\' + os.urandom(500)); sys.stdout.flush()\n'
        + STEPS
    )
    outcome = run_script(script)
    assert outcome.status is Status.MEASURED
    assert b'{"event": "done"}' in outcome.log.read_bytes()
    assert all(ord(c) >= 32 or c == "\t" for line in outcome.last_lines for c in line)


def test_a_script_cannot_tell(run_script: RunScript, tmp_path: Path) -> None:
    """argv, path, __main__ and standard input are what Python itself would give."""
    script = f"""
import os, pickle, sys
assert sys.argv == [__file__, "--epochs", "3", "a b"], sys.argv
assert sys.path[0] == {str(tmp_path)!r}, sys.path
assert not any("autotuner" in p.split("site-packages")[0] for p in sys.path[:1])
assert __builtins__.print is print
assert __name__ == "__main__" and sys.modules["__main__"].__file__ == __file__
assert os.getcwd() == {str(tmp_path)!r}
assert sys.stdin.read() == ""
class Thing: pass
pickle.loads(pickle.dumps(Thing()))
{STEPS}
"""
    outcome = run_script(script, arguments=("--epochs", "3", "a b"))
    assert outcome.status is Status.MEASURED, outcome.reason


def test_the_folder_repeats_the_trial(run_script: RunScript, tmp_path: Path) -> None:
    """Request, events and log are kept, and repro.sh runs the same trial by hand."""
    outcome = run_script(STEPS, configuration={"intra_op": 3, "map_parallelism": "4"})
    request = json.loads((outcome.folder / "request.json").read_text())
    assert request["environment"]["TF_NUM_INTRAOP_THREADS"] == "3"
    assert request["environment"]["TF_NUM_INTEROP_THREADS"] is None
    assert request["pipeline"]["map_parallelism"] == 4
    events = [
        json.loads(line) for line in (outcome.folder / "events.jsonl").read_text().splitlines()
    ]
    assert [events[0]["event"], events[-1]["event"]] == ["started", "exited"]
    done = subprocess.run(["sh", outcome.repro], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    repeated = [
        json.loads(line)
        for line in (outcome.folder / "events.repro.jsonl").read_text().splitlines()
    ]
    assert repeated[-1]["event"] == "done"


def test_the_environment_is_built(run_script: RunScript, monkeypatch: pytest.MonkeyPatch) -> None:
    """Knobs from the user's shell are left out; the rest of the environment is there."""
    monkeypatch.setenv("OMP_NUM_THREADS", "17")
    monkeypatch.setenv("AUTOTUNE_PREFETCH_DEPTH", "3")
    monkeypatch.setenv("MY_DATA", "here")
    script = (
        "import os\nassert 'OMP_NUM_THREADS' not in os.environ\n"
        "assert 'AUTOTUNE_PREFETCH_DEPTH' not in os.environ\n"
        "assert os.environ['MY_DATA'] == 'here'\nassert os.environ['EXTRA'] == '1'\n"
        "assert os.environ['TF_NUM_INTEROP_THREADS'] == '2'\n" + STEPS
    )
    outcome = run_script(script, configuration={"inter_op": 2}, environment=(("EXTRA", "1"),))
    assert outcome.status is Status.MEASURED, outcome.reason


def test_a_script_that_ends_early_gives_what_it_has(run_script: RunScript) -> None:
    """A script shorter than the measurement is reported with what was seen, and said to be."""
    script = "from autotuner import step\nimport time\nfor _ in range(40): time.sleep(0.01); step()"
    outcome = run_script(script, timing=replace(QUICK, measure_s=60))
    assert outcome.status is Status.MEASURED
    assert not outcome.complete
    assert outcome.windows


@pytest.mark.parametrize("source", [StepSource.KERAS, StepSource.STEP])
def test_no_step_of_the_kind_asked_for(run_script: RunScript, source: StepSource) -> None:
    """A source that was asked for and does not appear is said, not replaced."""
    outcome = run_script("print('nothing')", source=source)
    assert outcome.status is Status.NO_STEPS


PARENT = """
import os, sys
from pathlib import Path
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import ProcessRunner
folder = Path(sys.argv[1])
request = TrialRequest(script=folder / "script.py", python=Path(sys.executable),
                       working_directory=folder)
print(ProcessRunner(os.environ).run(request, folder / "trial").status.value)
"""


def test_a_parent_that_was_stopped_loses_nothing(tmp_path: Path, mark: str) -> None:
    """Events that arrive all at once, as after Ctrl-Z and fg, are all taken."""
    (tmp_path / "script.py").write_text(
        "from autotuner import step\nimport time\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\ntime.sleep(1)\n"
        "for _ in range(400): step(); time.sleep(0.002)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    wait_for((tmp_path / "ready").exists, "the script started")
    parent.send_signal(signal.SIGSTOP)
    wait_for(lambda: others(mark) == [parent.pid], "the script and the warden have ended")
    parent.send_signal(signal.SIGCONT)
    assert parent.communicate(timeout=60)[0] == "measured\n"
    events = (tmp_path / "trial/events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in events][-2:] == ["done", "exited"]


@pytest.mark.parametrize("victim", ["parent", "warden", "child"])
def test_kill_minus_nine_leaves_nothing(tmp_path: Path, mark: str, victim: str) -> None:
    """Whoever of parent, warden and child is killed by -9, all the others go too."""
    (tmp_path / "script.py").write_text(
        ORPHANS + f"open({str(tmp_path / 'ready')!r}, 'w').close()\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    try:
        wait_for((tmp_path / "ready").exists, "the script started")
        processes = psutil.Process(parent.pid).children(recursive=True)
        warden = next(p for p in processes if any("warden.py" in a for a in p.cmdline()))
        child = next(p for p in warden.children() if any("entry.py" in a for a in p.cmdline()))
        pid = {"parent": parent.pid, "warden": warden.pid, "child": child.pid}[victim]
        os.kill(pid, signal.SIGKILL)
        parent.wait(timeout=30)
        wait_for(lambda: others(mark) == [], "all processes are gone")
    finally:
        parent.kill()


def test_outcome_names_its_files(run_script: RunScript) -> None:
    """An outcome knows its log and its script to repeat it."""
    outcome: Outcome = run_script("1/0")
    assert outcome.log.is_file()
    assert outcome.repro.is_file()
