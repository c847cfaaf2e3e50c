"""``autotune run`` as its user sees it: its files, resuming, Ctrl-C, a terminal, arguments.

TensorFlow is a stub, as none of this depends on it.
"""

import json
import os
import pty
import select
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from autotuner.cli.main import main
from autotuner.statistics.sequential import Verdict
from tests.commands import AUTOTUNE, BRIEF, SCRIPT, STUBBED, autotune
from tests.processes import living_with
from tests.run_process import RunProcess, ended, role_phase

QUICK = [*BRIEF, "--effort", "fast", "--pairs", "0", "--knobs", "intra_op"]


@pytest.mark.long
def test_show_list_export_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All commands that read a study; then one trial more, and a final."""

    def read(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "train.py").write_text(SCRIPT)
    line = ["run", "--model", "train.py", "--trials", "3", *QUICK[:-1], "intra_op,kernels"]
    done = autotune(*line, cwd=tmp_path, **STUBBED)
    assert done.returncode == 0, done.stderr
    assert "has not yet met the defaults" in done.stdout

    assert "a step is: step\n" in read("show", "train")
    assert "train" in read("list")
    for kind, name in (("env", "best.env"), ("python", "best.py"), ("json", "best.json")):
        text = read("export", "train", "--format", kind)
        kept = (tmp_path / ".autotune/studies/train" / name).read_text()
        assert text.splitlines()[-3:] == kept.splitlines()[-3:]
    refused = read("export", "train", "--format", "yaml", code=1)
    assert "known: dockerfile, env, json, kubernetes, python, serving" in refused

    more = ["--study", "train", "--trials", "4", "--pairs", "2"]
    again = autotune("run", *more, cwd=tmp_path, **STUBBED)
    assert again.returncode == 0, again.stderr
    assert "TensorFlow's defaults:" not in again.stderr
    assert again.stderr.count("search:") == 1
    assert again.stderr.count("final pair, best:") >= 2
    document = json.loads((tmp_path / ".autotune/studies/train/best.json").read_text())
    assert document["result"]["verdict"] == Verdict.INCONCLUSIVE.value  # two pairs prove nothing
    assert document["result"]["speed_up"]["pairs"] == 2
    assert document["holds"] == "default"


def test_ctrl_c_in_the_middle_of_a_study(tmp_path: Path) -> None:
    """The trial ends, everything is kept, and the command that resumes the study is printed."""
    (tmp_path / "train.py").write_text(SCRIPT)
    line = ["--model", "train.py", "--study", "my study", *QUICK]
    run = RunProcess(tmp_path, *line, mark=uuid.uuid4().hex)
    run.until(ended("default"))
    run.until(role_phase("control", "measurement", run))
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, run.stderr
    rest = json.dumps(run.events)
    assert "resume with: autotune run --study 'my study'" in rest
    assert "Best so far" in rest
    assert living_with(run.mark) == []
    shown = autotune("show", "my study", cwd=tmp_path, **STUBBED)
    assert "interrupted" in shown.stdout
    again = autotune("run", "--study", "my study", "--trials", "3", cwd=tmp_path, **STUBBED)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("TensorFlow's defaults:") == 0
    assert again.stderr.count("search:") == 1


def test_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal a bar, the time and the trial's phase are shown, at most twice a second."""
    # what is shown changes twice a second, so each phase has to last
    (tmp_path / "train.py").write_text("import time\ntime.sleep(1.5)\n" + SCRIPT)
    controller, terminal = pty.openpty()
    shape = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [*AUTOTUNE, "run", "--model", "train.py", "--trials", "1", *QUICK],
        cwd=tmp_path,
        env={**os.environ, **STUBBED, **shape},
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
    reads = "import sys\nassert sys.argv[1:3] == ['--width', '4']\nopen(sys.argv[3]).read()\n"
    (tmp_path / "train.py").write_text(reads + SCRIPT)
    done = autotune(
        *("run", "--model", "train.py", "--trials", "1", *QUICK),
        *("--", "--width", "4", "rows.txt"),
        cwd=tmp_path,
        **STUBBED,
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / ".autotune/studies/train/best.env").read_text()
    assert "with 3 arguments" in text
    assert "rows.txt" not in text  # an argument may be a secret
