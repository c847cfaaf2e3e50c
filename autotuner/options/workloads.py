"""The reference workloads: plain TensorFlow scripts, each in a folder with its ``study.toml``."""

from pathlib import Path

from autotuner.errors import UserError, did_you_mean
from autotuner.options.study_spec import StudySpec, load_study_file

_PACKAGE = Path(__file__).resolve().parent.parent


def studies_folder() -> Path:
    """Return the folder of reference workloads: inside the wheel, or beside a source tree."""
    shipped = _PACKAGE / "_studies"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "studies"


def list_workloads() -> dict[str, StudySpec]:
    """Return all reference workloads by name."""
    files = sorted(studies_folder().glob("*/study.toml"))
    return {file.parent.name: load_study_file(file) for file in files}


def load_workload(name: str) -> StudySpec:
    """Return one reference workload.

    Raises:
        UserError: if there is none of that name.
    """
    file = studies_folder() / name / "study.toml"
    known = sorted(path.parent.name for path in studies_folder().glob("*/study.toml"))
    if name not in known:
        raise UserError(f'--workload: unknown workload "{name}"', hint=did_you_mean(name, known))
    return load_study_file(file)
