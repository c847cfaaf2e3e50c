"""From flags to a study specification: a file or workload first, flags over it."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

from autotuner.cli.flags import Flags as Flags
from autotuner.errors import UserError
from autotuner.knobs.check_spec import check_spec
from autotuner.options.option import Place
from autotuner.options.quantity import parse_bytes
from autotuner.options.study_file import load_study_file
from autotuner.options.study_spec import StudySpec
from autotuner.options.table import spec_from_given
from autotuner.options.workloads import load_workload
from autotuner.trial.confinement import Confinement


def base_spec(flags: Flags) -> StudySpec | None:
    """Return the specification of the study file, workload or script; None if none is given.

    Raises:
        UserError: if more than one is given, or the one given is wrong.
    """
    model = flags.given.get("model")
    sources = {
        "a study file": flags.study_file,
        "--model": model,
        "--workload": flags.workload,
    }
    named = [name for name, value in sources.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)}: only one of them", hint="see autotune run --help")
    if flags.study_file is not None:
        if flags.study_file.suffix == ".py":
            hint = f"write: autotune run --model {flags.study_file}"
            raise UserError(f"{flags.study_file}: a script is given by --model", hint=hint)
        return load_study_file(flags.study_file)
    if flags.workload is not None:
        return load_workload(flags.workload)
    return None if model is None else StudySpec(model=model)


def apply_flags(spec: StudySpec, flags: Flags) -> StudySpec:
    """Return the specification with the flags over it, all values checked.

    Raises:
        UserError: for the first wrong flag or value.
    """
    changed = spec_from_given(flags.given, base=spec, place=Place.FLAG)
    if flags.arguments:
        changed = dataclasses.replace(changed, arguments=flags.arguments)
    if "budget" in flags.given and "trials" not in flags.given:
        changed = dataclasses.replace(changed, trials=None)  # the budget is the bound now
    return check_spec(changed)


def confinement(user: str | None, memory: str | None, processes: int | None) -> Confinement:
    """Return the limits of trials and the user that runs them, from the values of the flags."""
    memory_bytes = None if memory is None else parse_bytes(memory, where="--trial-memory")
    return Confinement(user=user, memory_bytes=memory_bytes, processes=processes)


def find_interpreter(python: Path | None) -> Path:
    """Return the absolute path of the user's interpreter; links are kept, as a venv's is one.

    Raises:
        UserError: if there is none.
    """
    if python is None:
        return Path(sys.executable)
    python = python.expanduser()
    if len(python.parts) == 1 and not python.exists():
        found = shutil.which(str(python))
        if found is not None:
            return Path(found).absolute()
    hint = "--python takes the path of the interpreter that runs your script"
    if not python.is_file():
        raise UserError(f"--python {python}: no such interpreter", hint=hint)
    if not os.access(python, os.X_OK):
        raise UserError(f"--python {python}: not executable", hint=hint)
    return python.absolute()
