"""The command as users type it; TensorFlow is a stub but where a test is about loading it.

What a command line answers to bad input is asked of ``main`` in this process, which takes a
fraction of a new process's time; exit codes and output of processes are shown by the other tests.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autotuner.cli.app import COMMANDS
from autotuner.cli.main import main
from autotuner.knobs.catalogue import KNOBS
from autotuner.options.option import Group, Place
from autotuner.options.table import OPTIONS
from tests.commands import AUTOTUNE, QUICK, SCRIPT, STUBBED, STUBBED_PATH, autotune


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with scripts and study files, good and bad."""
    files = {
        "plain.py": "print(1)\n",
        "syntax.py": "def f(:\n",
        "crash.py": "import math\nraise ValueError('boom')\n",
        "unknown.toml": 'modle = "plain.py"\n',
        "broken.toml": "model = \n",
        "knob.toml": 'model = "plain.py"\nknobs = ["intra"]\n',
        "missing.toml": 'model = "none.py"\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "fake").write_text("no interpreter")
    (tmp_path / "fake").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("run", "nothing to tune", "--model SCRIPT"),
        ("run --model none.py", "none.py: no such file", "--model takes"),
        ("run --model .", "is a folder", "name a Python script, a .keras file"),
        ("run --model syntax.py", "syntax.py:1: ", "read by"),
        ("run --model plain.py", "without importing TensorFlow", None),
        ("run --model crash.py", "crash.py:2: ValueError: boom", "repeat it: sh "),
        ("run --model plain.py --knobs intra_opp", 'unknown knob "intra_opp"', '"intra_op"?'),
        ("run --model plain.py --trials 0", "--trials: 0 is too few", "at least 1"),
        ("run --model plain.py --budget soon", "not a duration", "10m"),
        ("run --model plain.py --sampler best", 'unknown value "best"', "tpe"),
        ("run --model plain.py --python /none", "no such interpreter", "--python takes"),
        ("run --model plain.py --python /bin/ls", "does not start", "Python 3.9"),
        ("run --model plain.py --python plain.py", "not executable", "--python takes"),
        ("run --model plain.py --python ./fake", "can't be started", "--python takes"),
        ("run --model plain.py --storage foo://x", "can't be opened", None),
        ("run --model plain.py --workload mlp_train", "only one of them", None),
        ("run --workload mlp", "unknown workload", "mlp_train"),
        ("run unknown.toml", 'unknown key "modle"', '"model"?'),
        ("run broken.toml", "not valid TOML", None),
        ("run knob.toml", 'unknown knob "intra"', "intra_op"),
        ("run missing.toml", "none.py: no such file", None),
        ("run plain.py", "a script is given by --model", "--model plain.py"),
        ("run --study none", "there are no studies here", "where the study was made"),
        ("run --model plain.py --storage sqlite:///no/where/x.db", "can't be written", None),
        ("show none", "there are no studies here", "where the study was made"),
        ("export none", "there are no studies here", None),
        ("list", "there are no studies here", None),
    ],
)
def test_bad_input(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    message: str,
    hint: str | None,
) -> None:
    """One clear message, a hint if there is one, exit code 1, and no traceback."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONPATH", STUBBED_PATH)
    code = main(line.split())
    stderr = capfd.readouterr().err
    assert code == 1, stderr
    check_bad_input(stderr, message, hint)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run --model plain.py", "no UTF-8"),
        ("list", "no UTF-8"),
        ("clean", "no UTF-8"),
        ("serve --models .", "no UTF-8"),
        ("run --model plain.py --storage sqlite:///\udcff.db", "no UTF-8"),
        ("run --study \udcff --storage sqlite:///x.db", "there are no studies here"),
        ("status \udcff", "printable"),
        ("submit plain.py --study \udcff", "printable"),
        ("submit plain.py --url http://a..b/", "a..b"),
    ],
)
def test_bytes_that_are_no_text(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    message: str,
) -> None:
    """Folders, storages and names that are no UTF-8 are errors, not bugs."""
    folder = tmp_path / "d\udcff"
    folder.mkdir()
    (folder / "plain.py").touch()
    monkeypatch.chdir(folder)
    code = main(line.split())
    stderr = capfd.readouterr().err
    assert (code, message in stderr) == (1, True), stderr


def check_bad_input(stderr: str, message: str, hint: str | None) -> None:
    errors = [text for text in stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert hint is None or hint in stderr.split("\nhint: ")[1]
    assert "autotuner/" not in stderr.replace("autotuner/child/entry.py", "")


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("run", "nothing to tune", "--model SCRIPT"),
        ("run --model crash.py", "crash.py:2: ValueError: boom", "repeat it: sh "),
    ],
)
def test_bad_input_in_a_process_of_its_own(
    folder: Path, line: str, message: str, hint: str
) -> None:
    """The same from the command: before a study begins, and after a trial."""
    done = autotune(*line.split(), cwd=folder, **STUBBED)
    assert done.returncode == 1, done.stderr
    check_bad_input(done.stderr, message, hint)


@pytest.mark.parametrize(
    "line", ["frob", "run --modle x.py", "run --trials many", "export", "run a b"]
)
def test_wrong_usage(folder: Path, line: str) -> None:
    """A wrong command line exits with 2."""
    done = autotune(*line.split(), cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_no_arguments(folder: Path) -> None:
    """Without a command the help is printed, and no error but the exit code."""
    done = autotune(cwd=folder)
    assert done.returncode == 2
    assert panels(done.stdout) == ["Options", "Tune", "Deploy", "Look", "Service"]
    assert done.stderr == ""


def test_an_interpreter_without_tensorflow(folder: Path) -> None:
    """The message names the interpreter, and the option for another one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "empty"], check=True)
    python = str(folder / "empty/bin/python")
    done = autotune("run", "--model", "plain.py", "--python", python, cwd=folder)
    assert done.returncode == 1
    assert f"error: {python}: TensorFlow can't be imported" in done.stderr
    assert "pip install tensorflow" in done.stderr


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    """A read-only folder can hold no study, and the message names it."""
    command = [*AUTOTUNE, "run", "--model", "plain.py"]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid", "65534", "--clear-groups", *command]
        for parent in [folder, *folder.parents][:4]:
            if parent != Path("/tmp"):
                parent.chmod(0o755)
    folder.chmod(0o555)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    folder.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "can't be written" in done.stderr
    assert "hint: run autotune where it may write" in done.stderr


HEAVY = """
import sys
from autotuner.cli.main import main
code = main({argv!r})
print("LOADED", sorted({{name.split(".")[0] for name in sys.modules}}), code, file=sys.stderr)
"""


def loaded_by(folder: Path, *argv: str, **environment: str) -> tuple[set[str], int, str]:
    """Return the packages that a command line has loaded at its end, its exit code and messages."""
    done = subprocess.run(
        [sys.executable, "-c", HEAVY.format(argv=argv)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    line = next(text for text in done.stderr.splitlines() if text.startswith("LOADED"))
    names, _, code = line.removeprefix("LOADED ").rpartition(" ")
    return set(ast.literal_eval(names)), int(code), done.stderr


@pytest.mark.parametrize(
    "line", ["--help", "run --help", "submit --help", "workloads", "knobs", "knobs intra_op"]
)
def test_help_loads_few_packages(folder: Path, line: str) -> None:
    """Help needs neither TensorFlow nor Optuna nor numpy."""
    loaded, code, _ = loaded_by(folder, *line.split())
    assert not {"tensorflow", "keras", "optuna", "sqlalchemy", "numpy", "scipy"} & loaded
    assert code == 0


@pytest.mark.parametrize("width", ["80", "120"])
def test_help_is_in_groups(folder: Path, width: str) -> None:
    """Commands and options stand in panels, none of their names cut off."""
    commands = autotune("--help", cwd=folder, COLUMNS=width).stdout
    assert panels(commands) == ["Options", "Tune", "Deploy", "Look", "Service"]
    assert all(f"\u2502 {name} " in commands for names in COMMANDS.values() for name in names)
    options = autotune("run", "--help", cwd=folder, COLUMNS=width).stdout
    groups = [group.value for group in Group]
    assert panels(options) == ["Arguments", "Options", *groups]
    for option in OPTIONS.values():
        if Place.FLAG in option.places:
            assert (f"\u2502 {option.flag} " in options) is not option.hidden, option.flag
    assert "\u2026" not in commands + options  # no text is shortened
    assert "[default: by effort]" in " ".join(options.replace("\u2502", " ").split())


def panels(text: str) -> list[str]:
    """Return the titles of the panels of a help text."""
    return re.findall("^\u256d\u2500 (\\w+) ", text, re.MULTILINE)


def completed(folder: Path, shell: str, line: str) -> list[str]:
    """Return the completions of the last word of a line."""
    return autotune(
        cwd=folder,
        _AUTOTUNE_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS=line,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split(" ")) - 1),
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("autotune ver", ["verify"]),
        ("autotune run --sampler ", ["gp", "tpe", "random", "grid"]),
        ("autotune run --objective lat", ["latency-p50", "latency-p99"]),
        ("autotune run --work", ["--workload"]),
        ("autotune run --workload ml", ["mlp_train"]),
        ("autotune export s --format serving", ["serving", "serving-batching"]),
        ("autotune knobs int", ["intra_op", "inter_op", "interleave_parallelism"]),
        ("autotune token rev", ["revoke"]),
    ],
)
def test_completion(folder: Path, line: str, offered: list[str]) -> None:
    """Shells complete commands, options and the values of an option."""
    assert completed(folder, "bash", line) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_of_other_shells(folder: Path, shell: str) -> None:
    """Zsh and fish are offered the same values as bash."""
    offered = "\n".join(completed(folder, shell, "autotune run --effort "))
    assert re.findall(r"\b(fast|balanced|thorough)\b", offered) == ["fast", "balanced", "thorough"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_set_up(folder: Path, shell: str) -> None:
    """autotune prints the script that sets completion up in a shell."""
    script = autotune(cwd=folder, _AUTOTUNE_COMPLETE=f"source_{shell}")
    assert script.returncode == 0
    assert f"_AUTOTUNE_COMPLETE=complete_{shell}" in script.stdout
    assert "--install-completion" in autotune("--help", cwd=folder).stdout


def test_knobs_at_80_columns(folder: Path) -> None:
    """Each knob is one line with its whole name; a named knob is described in full."""
    listed = autotune("knobs", cwd=folder, COLUMNS="80").stdout.splitlines()
    assert all(len(line) <= 80 for line in listed)
    assert [line.split()[0] for line in listed[2 : 2 + len(KNOBS)]] == list(KNOBS)
    described = autotune("knobs", "intra_op", cwd=folder, COLUMNS="80").stdout
    assert "TF_NUM_INTRAOP_THREADS" in described
    assert "inter_op" not in described
    verbose = autotune("knobs", "--verbose", cwd=folder, COLUMNS="80").stdout
    assert all(knob.variable in verbose and knob.name in verbose for knob in KNOBS.values())
    wrong = autotune("knobs", "intra_opp", cwd=folder)
    assert wrong.returncode == 1
    assert 'hint: did you mean "intra_op"?' in wrong.stderr


def test_the_parent_never_loads_tensorflow(folder: Path) -> None:
    """Even a run, with probe and trial of the defaults, does not load it in the parent."""
    loaded, code, stderr = loaded_by(folder, "run", "--model", "crash.py", **STUBBED)
    assert "optuna" in loaded
    assert "tensorflow" not in loaded
    assert code == 1
    check_bad_input(stderr, "crash.py:2: ValueError: boom", "repeat it: sh ")


def test_the_lists(folder: Path) -> None:
    """Workloads and knobs are listed, and the version is printed."""
    assert "image_input" in autotune("workloads", cwd=folder).stdout
    assert "map_parallelism" in autotune("knobs", cwd=folder).stdout
    assert autotune("--version", cwd=folder).stdout.startswith("autotune 0.")
    assert "--model" in autotune("run", "--help", cwd=folder).stdout


def test_a_study_of_another_program_is_refused(folder: Path) -> None:
    """A study that autotune did not make is refused, and stays as it is."""
    import optuna

    url = f"sqlite:///{folder / 'hpo.db'}"
    other = optuna.create_study(study_name="cnn", storage=url)
    other.ask()
    line = ["--storage", url, "--study", "cnn"]
    for arguments in (["run", "--model", "crash.py", *line], ["run", *line]):
        done = autotune(*arguments, cwd=folder)
        assert done.returncode == 1
        assert 'study "cnn" was not made by autotune' in done.stderr
    again = optuna.load_study(study_name="cnn", storage=url)
    assert [trial.state.name for trial in again.trials] == ["RUNNING"]
    assert again.user_attrs == {}


def test_passwords_are_not_shown(folder: Path) -> None:
    """A storage URL is printed without its password."""
    url = "postgresql://me:secret@127.0.0.1:1/x"
    done = autotune("run", "--model", "plain.py", "--storage", url, cwd=folder)
    assert done.returncode == 1
    assert "secret" not in done.stderr + done.stdout


def test_a_failed_default_leaves_no_study(folder: Path) -> None:
    """A script that does not run leaves its log, and its study's name stays free."""
    for _ in range(2):
        assert autotune("run", "--model", "crash.py", cwd=folder, **STUBBED).returncode == 1
    assert "no studies yet" in autotune("list", cwd=folder).stdout
    assert (folder / ".autotune/studies/crash/trials/0000/output.log").is_file()


def test_json_events_are_json(folder: Path) -> None:
    """With --json standard output holds only JSON events, even if the run fails."""
    done = autotune("run", "--model", "crash.py", "--json", cwd=folder, **STUBBED)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "message"
    assert [event["event"] for event in events][-2:] == ["trial_ended", "error"]
    assert events[-2]["status"] == "crashed"
    assert "boom" in events[-1]["message"]


def test_a_study_file_runs(tmp_path: Path) -> None:
    """A study.toml describes a run, a flag overrides it, and JSON output ends with the result."""
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "study.toml").write_text(
        'model = "train.py"\nname = "filed"\ntrials = 9\n'
        'knobs = ["inter_op"]\npairs = 0\neffort = "fast"\n[timing]\nmeasure = "0.3s"\n'
    )
    done = autotune("run", "study.toml", "--trials", "1", "--json", cwd=tmp_path, **STUBBED)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "result"
    assert list(events[-1]["best"]["configuration"]) == ["inter_op"]
    search = [e for e in events if e["event"] == "trial_ended" and e["role"] != "control"]
    assert len(search) == 1


def test_a_changed_script_gets_a_study_of_its_own(tmp_path: Path) -> None:
    """A script that changed between two runs is detected, and their trials are not mixed."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    line = ["run", "--model", "train.py", "--study", "s", *QUICK, "--trials", "1", "--pairs", "0"]
    assert autotune(*line, cwd=tmp_path, **STUBBED).returncode == 0
    script.write_text(SCRIPT + "# changed\n")
    done = autotune(*line, cwd=tmp_path, **STUBBED)
    assert done.returncode == 0, done.stderr
    assert "the script has changed since the study began" in done.stderr
    assert 'so this is study "s-2"' in done.stderr
    listed = autotune("list", cwd=tmp_path).stdout
    assert [row.split()[:2] for row in listed.splitlines()[1:]] == [["s", "1"], ["s-2", "1"]]


def undisturbed(
    *arguments: str, cwd: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command line, again while the tests beside it disturb every pair."""
    for _ in range(3):
        done = autotune(*arguments, cwd=cwd, **environment)
        if "other processes used the CPU all the time" not in done.stderr:
            break
    return done


@pytest.mark.long
def test_verify_and_compare(tmp_path: Path) -> None:
    """An exported file is compared with the defaults again; a slower one fails in CI."""
    (tmp_path / "train.py").write_text(SCRIPT)
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text('{"configuration": {"intra_op": 1}}')
    other.write_text('{"configuration": {"intra_op": 1, "inter_op": 1}}')
    line = [str(one), "--model", "train.py", "--effort", "fast", "--pairs", "2"]
    line += ["--measure-time", "0.3s"]
    done = undisturbed("verify", *line, "--fail-under", "50", cwd=tmp_path, **STUBBED)
    assert done.returncode == 1, done.stderr
    assert "is below the required 50" in done.stdout
    assert "of new processes)" in done.stdout
    done = undisturbed(
        "compare", str(one), str(other), *line[1:], "--json", cwd=tmp_path, **STUBBED
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["event"] == "finding"
    assert 1 <= found["pairs"] <= 2  # a neighbour may disturb one of them


def test_how_long_verify_measures(tmp_path: Path) -> None:
    """``--measure-time`` bounds the measurement of its pairs, in proportion to ``run``'s."""
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "one.json").write_text('{"configuration": {"intra_op": 1}}')
    line = ["verify", "one.json", "--model", "train.py", "--effort", "fast", "--pairs", "1"]
    line += ["--sequential", "--measure-time", "0.6s"]  # in duels the parent ends it
    done = undisturbed(*line, cwd=tmp_path, **STUBBED)
    assert done.returncode == 0, done.stderr
    last_run = max((tmp_path / ".autotune/versus").iterdir())
    requests = [json.loads(file.read_text()) for file in last_run.rglob("trials/*/request.json")]
    first, *others, last = sorted(one["measurement"]["measure_s"] for one in requests)
    # the defaults define the step and the noise, in two processes or, disturbed, in more; a pair
    assert (first, last) == (0.6, 1.2)
    assert len(others) >= 2
    assert set(others) == {1.0}


def test_a_disturbance_is_named(tmp_path: Path) -> None:
    """A process that keeps a CPU busy during a run is detected and reported."""
    (tmp_path / "train.py").write_text(SCRIPT)
    hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        line = ["run", "--model", "train.py", *QUICK, "--trials", "2", "--pairs", "0"]
        line += ["--sequential"]  # the sooner it is over, the less the other process uses
        done = autotune(*line, cwd=tmp_path, **STUBBED)
    finally:
        hog.kill()
        hog.wait()
    assert done.returncode == 0, done.stderr
    assert "warning: other processes used" in done.stderr
