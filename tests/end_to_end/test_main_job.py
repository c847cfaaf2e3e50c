"""The main job from the command line on real TensorFlow: run, resume, interrupt, export."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import StudySpec
from autotuner.statistics.sequential import Verdict
from autotuner.trial.outcome import Status
from autotuner.trial.request import RecordValues, TrialRequest
from autotuner.trial.runner import ProcessRunner
from autotuner.verdict.numerics import judge_numerics
from tests.commands import AUTOTUNE, autotune
from tests.end_to_end.kinds import KINDS
from tests.processes import living_with

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = pytest.mark.real_tensorflow
QUICK = ["--measure-time", "0.3s", "--effort", "fast", "--pairs", "0"]


@pytest.mark.long
def test_run_show_list_export_resume(tmp_path: Path) -> None:
    """A whole study: the table, the files, all commands that read it; then two trials more."""
    script = SCRIPTS / "own_threads.py"
    done = autotune("run", "--model", str(script), "--trials", "4", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("TensorFlow's defaults", "vendor's recipe", "best.env", "best.py", "best.json"):
        assert part in done.stdout
    assert "own_threads.py:6: the script calls tf.config.threading.set_intra_op" in done.stderr
    document = json.loads((tmp_path / ".autotune/own_threads/best.json").read_text())
    assert set(document["configuration"]) == {"intra_op", "inter_op", "onednn"}

    shown = autotune("show", "own_threads", cwd=tmp_path)
    assert shown.returncode == 0
    assert "a step is: function infer" in shown.stdout
    assert "own_threads" in autotune("list", cwd=tmp_path).stdout
    for kind, name in (("env", "best.env"), ("python", "best.py"), ("json", "best.json")):
        text = autotune("export", "own_threads", "--format", kind, cwd=tmp_path).stdout
        kept = (tmp_path / ".autotune/own_threads" / name).read_text()
        assert text.splitlines()[-3:] == kept.splitlines()[-3:]
    refused = autotune("export", "own_threads", "--format", "yaml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "known: dockerfile, env, json, kubernetes, python, serving" in refused.stderr

    assert "has not yet met the defaults" in done.stdout
    again = autotune("run", "--study", "own_threads", "--trials", "6", "--pairs", "2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "TensorFlow's defaults:" not in again.stderr
    assert again.stderr.count("search:") == 2
    assert again.stderr.count("final pair, best:") >= 2
    document = json.loads((tmp_path / ".autotune/own_threads/best.json").read_text())
    assert document["result"]["verdict"] == Verdict.INCONCLUSIVE.value  # two pairs prove nothing
    assert document["result"]["speed_up"]["pairs"] == 2
    assert document["holds"] == "default"


def test_interrupted_in_mid_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the trial, keeps everything, and says how to go on; see test_recovery.py."""
    number, code = signal.SIGINT, 130
    mark = uuid.uuid4().hex
    monkeypatch.setenv("MARK", mark)
    model = str(SCRIPTS / "function_loop.py")
    process = subprocess.Popen(
        [*AUTOTUNE, "run", "--model", model, "--study", "my study", "--json", *QUICK],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run in the background of a shell ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stdout is not None
    ended = 0
    for line in process.stdout:
        event = json.loads(line)
        ended += event["event"] == "trial_ended"
        if ended == 2 and event["event"] == "phase":
            process.send_signal(number)
            break
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "go on with: autotune run --study 'my study'" in rest
    assert "Best so far" in rest
    assert [pid for pid in living_with(mark) if pid != os.getpid()] == []
    shown = autotune("show", "my study", cwd=tmp_path)
    assert "interrupted" in shown.stdout
    if number == signal.SIGTERM:
        return
    again = autotune("run", "--study", "my study", "--trials", "3", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("search:") == 1


def test_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal a bar, the time and the trial's phase are shown, at most twice a second."""
    controller, terminal = pty.openpty()
    model = str(SCRIPTS / "function_loop.py")
    process = subprocess.Popen(
        [*AUTOTUNE, "run", "--model", model, "--trials", "1", *QUICK],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown, redraws, started = b"", 0, time.monotonic()
    while True:
        ready, _, _ = select.select([controller], [], [], 120)
        assert ready
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # the terminal is closed
            break
        shown += chunk
        redraws += chunk.count(b"\x1b[1A\x1b[2K")
    os.close(controller)
    assert process.wait(timeout=60) == 0, shown
    text = shown.decode()
    for part in (
        "trial 0 (TensorFlow's defaults), start",
        "measurement: ",
        "best.env",
        "x the default",
    ):
        assert part in text
    # two a second, and one for each line that is printed above
    assert 0 < redraws <= 2.2 * (time.monotonic() - started) + 30


def test_a_script_with_arguments(tmp_path: Path) -> None:
    """What follows -- reaches the script, which reads a file of the working directory."""
    (tmp_path / "rows.txt").write_text("8")
    done = autotune(
        *("run", "--model", str(SCRIPTS / "with_arguments.py"), "--trials", "1", *QUICK),
        *("--", "--width", "4", "rows.txt"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / ".autotune/with_arguments/best.env").read_text()
    assert "with 3 arguments" in text
    assert "rows.txt" not in text  # an argument may be a secret


# that each kind is measured is shown in test_scripts.py; here, that it comes through
@pytest.mark.parametrize(("script", "source"), KINDS[::2])
def test_every_kind_of_script(tmp_path: Path, script: str, source: str) -> None:
    """Scripts of every kind, unmodified, from the command line."""
    done = autotune("run", "--model", str(SCRIPTS / script), "--trials", "1", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"a step is: {source}" in done.stderr


OTHERS = [Path(p) for p in os.environ.get("AUTOTUNE_TEST_PYTHONS", "").split(":") if p]


@pytest.mark.skipif(not OTHERS, reason="AUTOTUNE_TEST_PYTHONS names no other interpreters")
@pytest.mark.parametrize("python", OTHERS or [None], ids=str)
@pytest.mark.parametrize(("script", "source"), KINDS)
def test_other_interpreters(tmp_path: Path, python: Path, script: str, source: str) -> None:
    """The same in interpreters with other versions of Python, TensorFlow and keras."""
    line = ["run", "--model", str(SCRIPTS / script), "--python", str(python), "--trials", "3"]
    done = autotune(*line, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"a step is: {source}" in done.stderr
    assert "crashed" not in done.stderr, done.stderr


def test_reference_workloads_are_measured(tmp_path: Path) -> None:
    """Each reference workload runs with the defaults and is measured in its own step."""
    steps = {
        "mlp_train": "keras fit",
        "cnn_train": "keras fit",
        "image_input": "keras fit",
        "wide_branches": "function infer",
        "transformer_infer": "keras predict",
    }
    for name, step in steps.items():
        done = autotune("run", "--workload", name, "--trials", "1", *QUICK, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"a step is: {step}" in done.stderr


def test_the_python_of_the_package_is_the_default(tmp_path: Path) -> None:
    """Without --python the running interpreter runs the script."""
    model = str(SCRIPTS / "function_loop.py")
    assert autotune("run", "--model", model, "--trials", "1", *QUICK, cwd=tmp_path).returncode == 0
    events = (tmp_path / ".autotune/function_loop/trials/0000/events.jsonl").read_text()
    hello = next(e for e in map(json.loads, events.splitlines()) if e["event"] == "hello")
    assert hello["executable"] == sys.executable


ODD = [
    ("two_modes.py", "steps come in two kinds"),
    ("slows_down.py", "the script gets slower while it runs"),
    ("two_steps.py", "each run is timed as a whole"),
]


@pytest.mark.parametrize(("script", "said"), ODD)
@pytest.mark.alone  # the course of a script's speed is what is looked at
def test_odd_scripts_are_told_as_what_they_are(tmp_path: Path, script: str, said: str) -> None:
    """Two kinds of steps, slowing down, two steps only: measured, with a sentence."""
    trials = "2" if script == "two_steps.py" else "1"
    line = ["run", "--model", str(SCRIPTS / script), "--trials", trials, *QUICK]
    done = autotune(*line, "--measure-time", "1s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert "crashed" not in done.stderr


def test_a_cache_is_measured_when_it_is_full(tmp_path: Path) -> None:
    """The first epoch, which is several times as slow, is not in the measurement; it says so."""
    line = ["run", "--model", str(SCRIPTS / "cached.py"), "--trials", "1", *QUICK]
    done = autotune(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the first pass fills this cache; it counts as warm-up" in done.stderr
    events = (tmp_path / ".autotune/cached/trials/0000/events.jsonl").read_text().splitlines()
    windows = [e for e in map(json.loads, events) if e["event"] == "window"]
    warm = sum(w["steps"] for w in windows if w["stage"] == "warmup")
    assert warm >= 240  # the first epoch has 250 steps


def test_results_that_change_are_seen(tmp_path: Path) -> None:
    """The guard on real TensorFlow: rounding passes, another loss does not."""
    script = tmp_path / "train.py"
    text = (SCRIPTS / "fit_arrays.py").read_text()
    script.write_text(text)
    spec = StudySpec(model=script)
    runner = ProcessRunner(os.environ)
    values = []
    tuned: Configuration = {"intra_op": 1, "onednn": "0"}
    sides: list[tuple[str, Configuration]] = [("a", {}), ("b", {}), ("c", tuned)]
    for name, configuration in sides:
        request = TrialRequest(
            script=script,
            python=Path(sys.executable),
            working_directory=tmp_path,
            configuration=configuration,
            timing=spec.timing,
            numerics=RecordValues(seed=7),
        )
        outcome = runner.run(request, tmp_path / name)
        assert outcome.status is Status.MEASURED, outcome.reason
        assert len(outcome.numerics) == 5
        values.append(outcome.numerics)
    found = judge_numerics(*values, changing=["onednn"])
    assert found.differs is False, found.text
    assert found.own == 0
    changed = [[2 * number for number in step] for step in values[2]]
    assert judge_numerics(values[0], values[1], changed, changing=["onednn"]).differs is True
