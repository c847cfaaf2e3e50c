"""The specification of a study: durations, study files, flags."""

from pathlib import Path

import pytest

from autotuner.cli.flags import Flags
from autotuner.cli.main import split_arguments
from autotuner.cli.resolve import apply_flags, base_spec, find_interpreter
from autotuner.errors import UserError
from autotuner.options.duration import format_duration, parse_duration
from autotuner.options.study_file import load_study_file
from autotuner.options.study_spec import SamplerName, StepSource, StudySpec
from autotuner.options.workloads import list_workloads, load_workload


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("45s", 45), ("10m", 600), ("1h30m", 5400), ("2.5m", 150), ("1m1s", 61)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are read as people write them."""
    assert parse_duration(text, where="--budget") == seconds


@pytest.mark.parametrize("text", ["", "abc", "10x", "-5", "5 m", "m", "0", "0s", "nan", "1e3"])
def test_bad_durations(text: str) -> None:
    """What is no duration is refused with the flag's name and an example."""
    with pytest.raises(UserError, match="--budget") as caught:
        parse_duration(text, where="--budget")
    assert "10m" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.4, "4 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (3720, "1 h 02 min")],
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    """Durations are written short."""
    assert format_duration(seconds) == text


def write(tmp_path: Path, text: str) -> Path:
    """Write a study file with a script beside it."""
    (tmp_path / "train.py").write_text("import tensorflow\n")
    file = tmp_path / "study.toml"
    file.write_text(text)
    return file


def test_a_study_file_describes_a_whole_study(tmp_path: Path) -> None:
    """Every key arrives, and paths are relative to the file."""
    spec = load_study_file(
        write(
            tmp_path,
            """
            model = "train.py"
            arguments = ["--epochs", "3"]
            python = "venv/bin/python"
            name = "mine"
            description = "a study"
            knobs = ["threads", "onednn"]
            measure = "keras"
            phase = "fit"
            trials = 12
            budget = "10m"
            sampler = "random"
            seed = 7
            [environment]
            DATA = "x"
            [timing]
            measure = "5s"
            start_timeout = "1h"
            """,
        )
    )
    assert spec.model == tmp_path / "train.py"
    assert spec.python == tmp_path / "venv/bin/python"
    assert spec.arguments == ("--epochs", "3")
    assert (spec.trials, spec.budget_s, spec.seed) == (12, 600.0, 7)
    assert (spec.measure, spec.sampler) == (StepSource.KERAS, SamplerName.RANDOM)
    assert spec.environment == (("DATA", "x"),)
    assert (spec.measure_s, spec.timing.start_timeout_s) == (5.0, 3600.0)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('modell = "train.py"', 'unknown key "modell"', 'did you mean "model"?'),
        ('model = "train.py"\ntrials = 0', "trials: 0 is too few", "at least 1"),
        ('model = "train.py"\ntrials = "3"', "expected a whole number", None),
        ('model = "train.py"\nseed = true', "expected a whole number", None),
        ('model = "train.py"\nsampler = "tpee"', 'unknown value "tpee"', "tpe"),
        ('model = "train.py"\narguments = "x"', "expected a list of strings", None),
        ('model = "train.py"\n[timing]\nmesure = "1s"', 'unknown key "mesure"', "measure"),
        ('model = "train.py"\ntiming = 3', "[timing] must be a table", None),
        ("trials = 3", 'the key "model" is missing', "model ="),
        ("model = ", "not valid TOML", None),
        ('model = "train.py"\n[environment]\nA = 1', "expected a table of strings", None),
    ],
)
def test_a_wrong_study_file(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    """A mistake is named with the file, the key and what to write instead."""
    file = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_study_file(file)
    assert str(file) in caught.value.message
    assert message in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


def test_an_unreadable_study_file(tmp_path: Path) -> None:
    """A file that is not there or not text is said."""
    with pytest.raises(UserError, match="No such file"):
        load_study_file(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text file"):
        load_study_file(binary)


def test_workloads_are_complete() -> None:
    """The five reference workloads are there, each with a script and a description."""
    workloads = list_workloads()
    names = ["cnn_train", "image_input", "mlp_train", "transformer_infer", "wide_branches"]
    assert list(workloads) == names
    assert all(spec.model.is_file() and spec.description for spec in workloads.values())
    with pytest.raises(UserError, match="unknown workload") as caught:
        load_workload("mlp_trian")
    assert caught.value.hint == 'did you mean "mlp_train"?'


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    """A flag overrides the file; options without a flag keep the file's value."""
    file = write(tmp_path, 'model = "train.py"\ntrials = 5\nseed = 3\narguments = ["a"]')
    given = {"trials": 9, "knobs": "threads, onednn"}
    flags = Flags(study_file=file, given=given, arguments=("b", "c"))
    base = base_spec(flags)
    assert base is not None
    spec = apply_flags(base, flags)
    assert (spec.trials, spec.seed) == (9, 3)
    assert spec.knobs == ("threads", "onednn")
    assert spec.arguments == ("b", "c")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"trials": 0}, "--trials: 0 is too few"),
        ({"trials": -3}, "--trials: -3 is too few"),
        ({"pairs": -1}, "--pairs: -1 is negative"),
        ({"margin": 3.0}, "--margin: expected a number between 0 and 1"),
        ({"batch_size": 0}, "--batch-size: a batch can't have 0 samples"),
        ({"shapes": ["x"]}, '--shape "x": not a shape'),
        ({"environment": ["A"]}, '--env: "A" has no value'),
        ({"environment": ["1=2"]}, '--env: "1" can\'t be the name of a variable'),
        ({"max_memory": "much"}, "--max-memory"),
        ({"start_timeout": "late"}, "--start-timeout"),
        ({"knobs": "intra_opp"}, 'unknown knob "intra_opp"'),
        ({"sampler": "magic"}, "--sampler"),
        ({"measure": "kears"}, "--measure"),
        ({"budget": "soon"}, "--budget"),
        ({"measure_time": "0s"}, "--measure-time"),
    ],
)
def test_wrong_flags(tmp_path: Path, flags: dict[str, object], message: str) -> None:
    """A wrong value is named with its flag."""
    script = tmp_path / "train.py"
    script.touch()
    with pytest.raises(UserError) as caught:
        apply_flags(StudySpec(model=script), Flags(given=flags))
    assert message in caught.value.message


def test_a_budget_replaces_the_trials_of_a_file(tmp_path: Path) -> None:
    """A budget on the command line is the bound; the file's number of trials is not."""
    flags = Flags(study_file=write(tmp_path, 'model = "train.py"\ntrials = 5'))
    base = base_spec(flags)
    assert base is not None
    assert apply_flags(base, Flags(given={"budget": "10m"})).trials is None
    both = apply_flags(base, Flags(given={"budget": "10m", "trials": 7}))
    assert (both.trials, both.budget_s) == (7, 600.0)


def test_only_one_thing_to_tune(tmp_path: Path) -> None:
    """A file, a script and a workload exclude each other."""
    with pytest.raises(UserError, match="only one"):
        base_spec(Flags(given={"model": Path("a.py")}, workload="mlp_train"))
    with pytest.raises(UserError, match="a script is given by --model"):
        base_spec(Flags(study_file=Path("train.py")))


@pytest.mark.parametrize(("name", "message"), [("none.py", "no such file"), ("", "is a folder")])
def test_a_model_that_is_none(tmp_path: Path, name: str, message: str) -> None:
    """What can't be a script is refused before anything is made."""
    with pytest.raises(UserError, match=message):
        apply_flags(StudySpec(model=tmp_path / name), Flags())


def test_a_knob_is_not_an_environment(tmp_path: Path) -> None:
    """A study may not set by [environment] what it searches."""
    script = tmp_path / "train.py"
    script.touch()
    spec = StudySpec(model=script, environment=(("TF_NUM_INTRAOP_THREADS", "2"),))
    with pytest.raises(UserError, match="is a knob"):
        apply_flags(spec, Flags())


def test_interpreters(tmp_path: Path) -> None:
    """A link to an interpreter is kept, as a virtual environment is one; none is an error."""
    import sys

    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert find_interpreter(link) == link
    assert find_interpreter(None) == Path(sys.executable)
    with pytest.raises(UserError, match="no such interpreter"):
        find_interpreter(tmp_path / "missing")


def test_script_arguments_are_split_off() -> None:
    """Everything after the first -- is the script's."""
    assert split_arguments(["run", "--model", "a.py", "--", "--x", "--", "y"]) == (
        ["run", "--model", "a.py"],
        ("--x", "--", "y"),
    )
    assert split_arguments(["list"]) == (["list"], ())
