"""The body of a request for a study: its fields, which come from the table of options, and what it
submits.

Pydantic checks the types and the service's limits, and describes them at ``/openapi.json``. The
table checks the values, as it does for the command line.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from autotuner.errors import UserError
from autotuner.knobs.check_spec import check_spec
from autotuner.options import kinds
from autotuner.options.names import MOST_CHARACTERS, name_from
from autotuner.options.option import Option, Place
from autotuner.options.study_spec import StudySpec
from autotuner.options.table import OPTIONS, spec_from_given
from autotuner.service.queue import Submission
from autotuner.service.scripts import find_script
from autotuner.study.identity import model_digest

_MOST_ITEMS = 64
_LONGEST_TEXT = 1000
_LONGEST_AMOUNT = 40
_LARGEST = 2**31 - 1
_NO_NUL = r"^[^\x00]*$"  # no command line can hold one
# limits on top of those of every text, list and number
_LIMITS: dict[str, dict[str, Any]] = {
    "study": {"max_length": MOST_CHARACTERS},
    "trials": {"le": 10_000},
    "pairs": {"le": 1000},
    **{
        key: {"max_length": _LONGEST_AMOUNT}
        for key, option in OPTIONS.items()
        if option.kind in (kinds.DURATION, kinds.MEMORY)
    },
}


class _Request(BaseModel):
    """A study to be tuned. Fields that are left out get the defaults of ``autotune run``."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"script": "train.py"}]}
    )

    script: str = Field(max_length=500, description="A path relative to the service's models.")
    python: str | None = Field(None, max_length=500, description="One of the listed interpreters.")


def _limited(option: Option) -> Any:
    """Return the type of an option's JSON, with the service's limits."""
    kind, more = option.kind, _LIMITS.get(option.key, {})
    literal: Any = Literal
    if kind.choices:
        return literal[kind.choices]
    text: dict[str, Any] = {"max_length": _LONGEST_TEXT, "pattern": _NO_NUL}
    if kind.json_type is str:
        return Annotated[str, Field(**{**text, **more})]
    if kind.json_type is int:
        least = -_LARGEST if kind.least is None else kind.least
        return Annotated[int, Field(**{"ge": least, "le": _LARGEST, **more})]
    if kind.json_type == list[str]:
        return Annotated[list[Annotated[str, Field(**text)]], Field(max_length=_MOST_ITEMS)]
    return kind.json_type


def _description(option: Option) -> str:
    default = f" Default: {option.default_text}." if option.default_text else ""
    return option.help_text + default


if TYPE_CHECKING:
    StudyRequest = _Request
else:
    StudyRequest = create_model(
        "StudyRequest",
        __base__=_Request,
        __doc__=_Request.__doc__,
        __module__=__name__,
        **{
            key: (_limited(option) | None, Field(None, description=_description(option)))
            for key, option in OPTIONS.items()
            if Place.BODY in option.places
        },
    )


def submission_of(
    wanted: StudyRequest, models: Path, interpreters: Mapping[str, str]
) -> Submission:
    """Return what a request submits, checked as far as possible before it runs.

    Args:
        wanted: the request.
        models: the folder of the scripts that may be submitted.
        interpreters: their paths by the names that clients use.

    Raises:
        ForbiddenScriptError: if the script may not be tuned.
        UserError: for anything else that is wrong.
    """
    script = find_script(models, wanted.script)
    if wanted.python is not None and wanted.python not in interpreters:
        known = ", ".join(sorted(interpreters)) or "none but the service's own"
        raise UserError(f"python: not one of the service's interpreters: {known}")
    base = StudySpec(model=Path(wanted.script), name=_name_for(wanted.script))
    given = wanted.model_dump(exclude_unset=True, exclude={"script", "python"})
    spec = spec_from_given(given, base=base)
    try:
        check_spec(dataclasses.replace(spec, model=script), Place.BODY)
    except UserError as error:
        # clients know scripts by their paths below the folder
        message = error.message.replace(f"{models.resolve()}/", "")
        raise UserError(message, hint=error.hint) from error
    return Submission(spec=spec, python=wanted.python, model_sha256=model_digest(script))


def _name_for(script: str) -> str:
    """Return a study's name made of a script's path, so that two scripts have two names."""
    path = "-".join(PurePosixPath(script).with_suffix("").parts)
    return name_from(path if path[:1].isalnum() else f"study-{path}")
