"""The checks of a specification that need the disk or the catalogue of knobs."""

import dataclasses
from pathlib import Path

from autotuner.errors import UserError
from autotuner.knobs.catalogue import MANAGED_VARIABLES
from autotuner.knobs.selection import check_knob_names
from autotuner.options.option import Place
from autotuner.options.study_spec import StudySpec, is_saved_model
from autotuner.options.table import OPTIONS
from autotuner.options.text_file import file_problem


def check_spec(spec: StudySpec, place: Place = Place.FLAG) -> StudySpec:
    """Return a specification with the absolute path of its script.

    Args:
        spec: the specification.
        place: where it was given; messages name a flag as a flag, else a key.

    Raises:
        UserError: if there is no such script, or options do not go together or with the catalogue.
    """
    spec = dataclasses.replace(spec, model=_script_path(spec.model))
    check_knob_names(spec.knobs, _name("knobs", place))
    if is_saved_model(spec.model):
        if spec.arguments:
            raise UserError(f"{spec.model}: a saved model takes no arguments", hint="leave out --")
    elif spec.batch_size is not None or spec.shapes:
        hint = "pass them to the script after --, if it takes such arguments"
        names = f"{_name('batch_size', place)} and {_name('shapes', place)}"
        raise UserError(f"{names} are for saved models, not scripts", hint=hint)
    for name, _ in spec.environment:
        if name in MANAGED_VARIABLES:
            hint = "remove it from the study's environment: it is searched"
            raise UserError(f"{name} is a knob", hint=hint)
    return spec


def _name(key: str, place: Place) -> str:
    return OPTIONS[key].flag if place is Place.FLAG else key


def _script_path(path: Path) -> Path:
    """Return the absolute path of a script or a saved model; raise UserError for anything else."""
    if path.is_dir() and not is_saved_model(path):
        hint = "name a Python script, a .keras file, or a folder with a saved_model.pb"
        raise UserError(f"{path}: is a folder, but not a SavedModel", hint=hint)
    if not path.exists():
        raise UserError(f"{path}: no such file", hint="--model takes the path of a Python script")
    if not is_saved_model(path) and path.suffix not in (".py", ".pyw", ""):
        hint = "--model takes a .py file, a .keras file or a SavedModel's folder"
        raise UserError(f"{path}: not a Python script, nor a saved model", hint=hint)
    if not path.is_dir():
        problem = file_problem(path)
        if problem is not None and not (is_saved_model(path) and path.is_file()):
            hint = "--model takes the path of a Python script or of a saved model"
            raise UserError(f"{path}: {problem}", hint=hint)
    return path.absolute()
