"""The table of options: each is declared once, and every form of it comes back as it was."""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from autotuner.cli.app import COMMANDS
from autotuner.cli.commands import tune
from autotuner.codec import from_json, to_json
from autotuner.errors import UserError
from autotuner.options.option import Group, Option, Place
from autotuner.options.study_file import load_study_file
from autotuner.options.study_spec import (
    StudySpec,
)
from autotuner.options.table import (
    OPTIONS,
    spec_from_given,
    to_argv,
    to_given,
    value_of,
    with_values,
)
from autotuner.report.repeat import repeat_commands
from tests.unit.option_values import FOR_SAVED_MODELS, VALUES, at, parse


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a script that exists."""
    path = tmp_path / "train.py"
    path.touch()
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a file that passes for a saved model."""
    path = tmp_path / "model.keras"
    path.touch()
    return path


def test_every_option_has_a_value_to_try() -> None:
    """A new option needs a line in VALUES; all tests of round trips then cover it."""
    assert set(VALUES) == set(OPTIONS) - {"model"}
    base = StudySpec(model=Path("x.py"))
    assert all(value_of(base, OPTIONS[key]) != value for key, value in VALUES.items())


def test_every_field_is_an_option() -> None:
    """A field of the specification that can't be given would be no option."""
    named = {option.path[0] for option in OPTIONS.values()}
    assert named == {field.name for field in dataclasses.fields(StudySpec)}


@pytest.mark.parametrize("key", at(Place.FLAG))
def test_the_command_line_comes_back(script: Path, saved: Path, key: str) -> None:
    """to_argv writes what the parser of ``autotune run`` reads as the same specification."""
    base = StudySpec(model=saved if key in FOR_SAVED_MODELS else script)
    spec = with_values(base, {key: VALUES[key]})
    assert parse(to_argv(spec)) == spec
    assert parse(shlex.split(shlex.join(to_argv(spec)))) == spec


def test_all_options_at_once_come_back(script: Path) -> None:
    """Options do not get in each other's way, and arguments go after --."""
    keys = {*at(Place.FLAG)} - FOR_SAVED_MODELS
    spec = with_values(StudySpec(model=script), {key: VALUES[key] for key in keys})
    spec = dataclasses.replace(spec, arguments=("--", "--trials", "9"))
    assert parse([*to_argv(spec), "--", *spec.arguments]) == spec


@pytest.mark.parametrize("key", sorted({*at(Place.FLAG)} - {"environment"}))
def test_a_report_repeats_the_study(script: Path, saved: Path, key: str) -> None:
    """The command in a report asks for the same study; only its name is free."""
    base = StudySpec(model=saved if key in FOR_SAVED_MODELS else script)
    spec = with_values(base, {key: VALUES[key]})
    *_, again = repeat_commands("s", "best.json", spec)
    words = shlex.split(again, comments=True)
    assert words[:2] == ["autotune", "run"]
    assert parse(words[2:]) == dataclasses.replace(spec, name=None)


def test_a_report_shows_no_secrets(script: Path) -> None:
    """Arguments and values of variables are left out of the commands."""
    spec = dataclasses.replace(
        StudySpec(model=script), environment=(("KEY", "hunter2"),), arguments=("hunter2", "x")
    )
    resume, verify, again = repeat_commands("my study", "best.json", spec)
    assert resume.startswith("autotune run --study 'my study' ")
    for command in (verify, again):
        assert "hunter2" not in command
        assert "--env=KEY=..." in command
        assert " -- ...(2 arguments)" in command


def test_defaults_need_no_words(script: Path) -> None:
    """Only what differs from the defaults is written."""
    assert to_argv(StudySpec(model=script)) == [f"--model={script}"]


def in_toml(option: Option, stored: object) -> str:
    """Return the line of a study.toml that gives an option."""
    text = json.dumps(stored)
    if isinstance(stored, dict):
        text = "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in stored.items()) + "}"
    table, _, key = option.file_key.rpartition(".")
    return f"[{table}]\n{key} = {text}\n" if table else f"{key} = {text}\n"


@pytest.mark.parametrize("key", at(Place.FILE))
def test_a_study_file_comes_back(script: Path, key: str) -> None:
    """What is written under an option's key is read as its value."""
    option = OPTIONS[key]
    spec = with_values(StudySpec(model=script), {key: VALUES[key]})
    file = script.with_name("study.toml")
    file.write_text('model = "train.py"\n' + in_toml(option, option.kind.write(VALUES[key])))
    assert load_study_file(file) == spec


@pytest.mark.parametrize("key", at(Place.BODY))
def test_the_body_of_a_request_comes_back(script: Path, key: str) -> None:
    """What JSON carries is read as the same specification."""
    base = StudySpec(model=script)
    spec = with_values(base, {key: VALUES[key]})
    body = json.loads(json.dumps(to_given(spec)))
    assert list(body) == [key]
    assert spec_from_given(body, base=base) == spec


def test_a_specification_can_be_stored(script: Path) -> None:
    """The declarations beside the fields do not disturb the codec."""
    spec = with_values(StudySpec(model=script), VALUES)
    assert from_json(StudySpec, json.loads(json.dumps(to_json(spec)))) == spec


@pytest.mark.parametrize("key", ["model", "python", "environment", "description", "no_such"])
def test_what_a_request_may_not_give(script: Path, key: str) -> None:
    """The service chooses script, interpreter and environment, not the body of a request."""
    with pytest.raises(UserError, match=f'unknown key "{key}"'):
        spec_from_given({key: "x"}, base=StudySpec(model=script))


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ({"trials": 0}, "trials: 0 is too few", "at least 1"),
        ({"trials": "3"}, "trials: expected a whole number", None),
        ({"sampler": "tpee"}, 'sampler: unknown value "tpee"', "tpe"),
        ({"budget": "soon"}, 'budget: "soon" is not a duration', "10m"),
        ({"knobs": [1]}, "knobs: expected a list of strings", None),
        ({"margin": True}, "margin: expected a number between 0 and 1", "3 %"),
        ({"trails": 3}, 'unknown key "trails"', "trials"),
    ],
)
def test_a_wrong_request(
    script: Path, body: dict[str, object], message: str, hint: str | None
) -> None:
    """A mistake is named by its key."""
    with pytest.raises(UserError) as caught:
        spec_from_given(body, base=StudySpec(model=script))
    assert message in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


def test_null_in_a_request_is_not_given(script: Path) -> None:
    """A client may send null for what it leaves to the service."""
    base = StudySpec(model=script)
    assert spec_from_given({"trials": None}, base=base) == base


def test_every_option_is_in_a_panel() -> None:
    """Options of a panel stand together, and the panels in their order."""
    signature = tune.run.__signature__  # type: ignore[attr-defined]
    panels = [
        parameter.annotation.__metadata__[0].rich_help_panel
        for name, parameter in signature.parameters.items()
        if name in OPTIONS
    ]
    assert list(dict.fromkeys(panels)) == list(Group)
    assert [group for group in Group for panel in panels if panel == group] == panels


def test_every_command_has_a_help() -> None:
    """A command's help begins with one line, as the list of commands keeps line breaks."""
    for commands in COMMANDS.values():
        for command in commands.values():
            first = (command.__doc__ or "").strip().split("\n\n")[0]
            assert first.endswith((".", "?"))
            assert "\n" not in first
