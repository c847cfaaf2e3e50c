"""``study.toml``: the same options as on the command line, by their keys."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotuner.errors import UserError, did_you_mean
from autotuner.options.option import Place
from autotuner.options.study_spec import StudySpec
from autotuner.options.table import OPTIONS, with_values
from autotuner.options.text_file import read_text_file

_BY_FILE_KEY = {o.file_key: o for o in OPTIONS.values() if Place.FILE in o.places}
_TABLES = {key.partition(".")[0] for key in _BY_FILE_KEY if "." in key}


def load_study_file(path: Path) -> StudySpec:
    """Read a ``study.toml``; its ``model`` and ``python`` are relative to the file.

    Raises:
        UserError: if the file can't be read, is not TOML, holds an unknown key or a wrong value.
    """
    try:
        document = tomllib.loads(read_text_file(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    values = _read_table(document, str(path))
    if "model" not in values:
        raise UserError(f'{path}: the key "model" is missing', hint='add model = "script.py"')
    # os.path semantics on purpose: an interpreter in a venv is a link that must not be resolved
    model = path.parent / values.pop("model")
    if "python" in values and len(values["python"].parts) > 1:
        values["python"] = path.parent / values["python"]
    return with_values(StudySpec(model=model), values)


def _read_table(table: Mapping[str, object], where: str, name: str = "") -> dict[str, Any]:
    """Return the values of a table of the file, nested tables included, by the options' keys."""
    known = [key.removeprefix(name) for key in _BY_FILE_KEY if key.startswith(name)]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if not name and key in _TABLES:
            if not isinstance(value, Mapping):
                raise UserError(f"{where}: [{key}] must be a table")
            values |= _read_table(value, f"{where}: [{key}]", f"{key}.")
        elif key not in known:
            raise UserError(f'{where}: unknown key "{key}"', hint=did_you_mean(key, known))
        else:
            option = _BY_FILE_KEY[name + key]
            values[option.key] = option.kind.read(value, f"{where}{' ' if name else ': '}{key}")
    return values
