"""The reference workloads: plain TensorFlow scripts, each in a folder with its ``study.toml``."""

from pathlib import Path

from autotuner.errors import UserError, did_you_mean
from autotuner.options.study_file import load_study_file
from autotuner.options.study_spec import StudySpec

_PACKAGE = Path(__file__).resolve().parent.parent


def studies_folder() -> Path:
    """Return the folder of reference workloads: inside the wheel, or beside a source tree."""
    shipped = _PACKAGE / "_studies"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "studies"


def workload_names() -> list[str]:
    """Return the names of the reference workloads."""
    return sorted(file.parent.name for file in studies_folder().glob("*/study.toml"))


def list_workloads() -> dict[str, StudySpec]:
    """Return all reference workloads by name."""
    return {name: load_workload(name) for name in workload_names()}


def load_workload(name: str) -> StudySpec:
    """Return one reference workload.

    Raises:
        UserError: if there is none of that name.
    """
    known = workload_names()
    if name not in known:
        raise UserError(f'--workload: unknown workload "{name}"', hint=did_you_mean(name, known))
    return load_study_file(studies_folder() / name / "study.toml")
