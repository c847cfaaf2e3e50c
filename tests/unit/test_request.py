"""A request for a study: its body, the queue, and the command line that comes of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from autotuner.cli.flags import Flags
from autotuner.cli.remote import request_body
from autotuner.errors import UserError
from autotuner.options.option import Place
from autotuner.options.study_spec import StudySpec
from autotuner.options.table import OPTIONS, to_given, value_of, with_values
from autotuner.service.executor import command_of
from autotuner.service.queue import Queue, Submission
from autotuner.service.request import StudyRequest, submission_of
from autotuner.service.tokens import Scope, check_token, create_token, list_tokens, revoke_token
from autotuner.study.storage import default_url, open_database
from tests.unit.option_values import FOR_SAVED_MODELS, VALUES, at, parse

# names of studies are parts of URLs
WANTED = {**VALUES, "study": "a-study"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a script and what passes for a saved model."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "train.py").touch()
    (folder / "model.keras").touch()
    return folder


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Queue:
    """An empty queue in a file."""
    folder = tmp_path_factory.mktemp("queue")
    return Queue(open_database(default_url(folder / ".autotune"), create=True))


def submitted(models: Path, body: object) -> Submission:
    """Return what the service makes of a body."""
    wanted = StudyRequest.model_validate_json(json.dumps(body))
    return submission_of(wanted, models, {"plain": "/usr/bin/python3"})


@pytest.mark.parametrize("key", at(Place.BODY))
def test_a_request_becomes_the_command_line(models: Path, queue: Queue, key: str) -> None:
    """Each option that a request may give reaches ``autotune run`` as it was given."""
    script = "model.keras" if key in FOR_SAVED_MODELS else "train.py"
    asked = with_values(StudySpec(model=Path(script), name=f"of-{key}"), {key: WANTED[key]})
    submission = submitted(models, {"script": script, **to_given(asked)})
    assert submission.spec == asked
    job, new = queue.submit(submission, "me")
    assert new
    assert job.submission == submission
    argv = command_of(job.submission, models / script, None, [])
    words = argv[argv.index("--wait") + 1 :]
    assert parse(words) == dataclasses.replace(asked, model=models / script)


@pytest.mark.parametrize("key", sorted({*at(Place.BODY)} & {*at(Place.FLAG)}))
def test_flags_become_a_request(models: Path, key: str) -> None:
    """``submit`` sends what its flags ask for."""
    script = "model.keras" if key in FOR_SAVED_MODELS else "train.py"
    stored = OPTIONS[key].kind.write(WANTED[key])
    flag = ",".join(WANTED[key]) if key == "knobs" else True if key == "pairing" else stored
    body = request_body(script, Flags(given={key: flag}))
    assert body == {"script": script, key: stored}
    assert value_of(submitted(models, body).spec, OPTIONS[key]) == WANTED[key]


def test_flags_name_an_interpreter(models: Path) -> None:
    """``--python`` of ``submit`` is a name that the service knows; arguments are the script's."""
    flags = Flags(given={"python": "plain"}, arguments=("--x", "1"))
    body = request_body("train.py", flags)
    assert body == {"script": "train.py", "python": "plain", "arguments": ["--x", "1"]}
    submission = submitted(models, body)
    assert (submission.python, submission.spec.python) == ("plain", None)
    assert (submission.study, submission.script) == ("train", "train.py")


def test_a_wrong_flag_is_not_sent() -> None:
    """A mistake is named by its flag."""
    with pytest.raises(UserError, match="--trials: 0 is too few"):
        request_body("train.py", Flags(given={"trials": 0}))


def test_submit_has_every_option() -> None:
    """Its help lists what a request may give."""
    from autotuner.cli.commands.service import submit

    names = set(submit.__signature__.parameters)  # type: ignore[attr-defined]
    assert {*at(Place.BODY)} & {*at(Place.FLAG)} <= names
    assert not names & {"model", "environment", "workload"}


def test_the_description_has_every_option() -> None:
    """``/openapi.json`` states each option's type, values and meaning."""
    app = FastAPI()

    @app.post("/studies")
    def submit(wanted: StudyRequest) -> None: ...

    schema = app.openapi()["components"]["schemas"]["StudyRequest"]
    fields: dict[str, Any] = schema["properties"]
    assert set(fields) == {"script", "python", *at(Place.BODY)}
    assert schema["required"] == ["script"]
    assert schema["additionalProperties"] is False
    for key in at(Place.BODY):
        option, field = OPTIONS[key], fields[key]
        assert field["description"].startswith(option.help_text)
        kind = field["anyOf"][0]
        assert tuple(kind.get("enum", ())) == option.kind.choices
        names = {int: "integer", float: "number", bool: "boolean", str: "string"}
        assert kind["type"] == names.get(option.kind.json_type, "array")
    assert fields["trials"]["anyOf"][0]["minimum"] == 1


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ({"knobs": ["thread"]}, 'knobs: unknown knob "thread"', "threads"),
        ({"batch_size": 8}, "batch_size and shapes are for saved models", "arguments"),
        ({"script": "model.keras", "arguments": ["x"]}, "model.keras: a saved model takes", "--"),
        ({"budget": "soon"}, 'budget: "soon" is not a duration', "10m"),
        ({"python": "/bin/sh"}, "python: not one of the service's interpreters: plain", None),
        (
            {"study": "autotune-queue"},
            "study: a study's name can't be \"autotune-queue\"",
            "a name such as",
        ),
    ],
)
def test_a_refused_request(
    models: Path, body: dict[str, object], message: str, hint: str | None
) -> None:
    """A mistake is named by its key; the service's folders are not revealed."""
    with pytest.raises(UserError) as caught:
        submitted(models, {"script": "train.py", **body})
    assert caught.value.message.startswith(message)
    assert str(models) not in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


@pytest.mark.parametrize("key", ["environment", "model", "description", "storage"])
def test_what_a_request_may_not_give(key: str) -> None:
    """The service chooses script, interpreter and environment."""
    with pytest.raises(ValidationError, match=key):
        StudyRequest.model_validate({"script": "train.py", key: "x"})


def test_jobs_of_another_schema_are_left_alone(queue: Queue) -> None:
    """They are neither listed nor taken nor swept."""
    before = queue.jobs()
    others: list[dict[str, object]] = [{"schema": 10**6, "value": {}}, {"submission": {}}]
    for stored in others:
        queue.store.start(queue.store.add({"job": json.dumps(stored)}))
    assert queue.jobs() == before
    assert queue.sweep() == 0


def test_tokens_of_another_schema_are_not_valid(queue: Queue) -> None:
    """They are neither accepted nor listed nor revoked."""
    token = create_token(queue.store, "ci", [Scope.READ])
    (key,) = (one.key for one in list_tokens(queue.store))
    assert check_token(queue.store.attributes(), token) is not None
    name = f"token:{key}"
    stored = json.loads(queue.store.attributes()[name])
    queue.store.set_attribute(name, json.dumps({**stored, "schema": stored["schema"] + 1}))
    assert check_token(queue.store.attributes(), token) is None
    assert list_tokens(queue.store) == []
    assert not revoke_token(queue.store, key)
