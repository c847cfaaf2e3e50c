"""The identity of a study, stored in it: trials of different identities are never mixed."""

import dataclasses
import hashlib
import json
import re
import shlex
from pathlib import Path

from autotuner.errors import UserError
from autotuner.knobs.knob import Build
from autotuner.machine.host import Machine
from autotuner.options.study_spec import StudySpec
from autotuner.trial.request import arguments_of

_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything that must be the same for two trials to be comparable."""

    model: str
    model_sha256: str
    arguments: tuple[str, ...]
    measure: str
    phase: str | None
    environment: tuple[tuple[str, str], ...]
    machine: str
    tensorflow: str
    python: str
    objective: str
    limits: str

    def differences(self, other: "Identity") -> list[str]:
        """Return one line for each field in which the other identity differs."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        lines = []
        for field in mine:
            if mine[field] == theirs[field]:
                continue
            if field == "model_sha256":
                lines.append("the script has changed since the study began")
            else:
                lines.append(
                    f"{field}: {_plain(mine[field])} in the study, now {_plain(theirs[field])}"
                )
        return lines


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return shlex.join("=".join(v) if isinstance(v, tuple) else str(v) for v in value) or "none"
    return "none" if value is None else str(value)


def identify(spec: StudySpec, machine: Machine, build: Build) -> Identity:
    """Return the identity that a study has if it is made or resumed now."""
    return Identity(
        model=str(spec.model),
        model_sha256=_digest(spec.model),
        arguments=arguments_of(spec),
        measure=spec.measure.value,
        phase=spec.phase,
        environment=spec.environment,
        machine=f"{machine.host}: {machine.describe()}",
        tensorflow=build.tensorflow,
        python=build.python,
        objective=spec.objective.value,
        limits=f"memory {spec.max_memory_bytes}, p99 {spec.max_latency_p99_s}",
    )


def _digest(model: Path) -> str:
    """Return the SHA-256 of a file; of a SavedModel's folder, that of its files' contents."""
    digest = hashlib.sha256()
    for file in sorted(model.rglob("*")) if model.is_dir() else [model]:
        if file.is_file():
            with file.open("rb") as content:
                while block := content.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def folder_name(study: str) -> str:
    """Return a folder name for a study: readable, safe, and different for different names."""
    safe = _SAFE.sub("-", study).strip(".-")[:80]
    if safe == study:
        return study
    return f"{safe or 'study'}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"


def claim_folder(home: Path, study: str, storage: str) -> Path:
    """Return the folder of a study's files under ``.autotune``, one for each storage.

    Two storages may hold studies of the same name, whose files are kept apart.

    Args:
        home: the ``.autotune`` folder.
        study: the study's name.
        storage: identifies the storage, without its password.

    Raises:
        UserError: if the folder can't be written.
    """
    name, mine = folder_name(study), json.dumps({"study": study, "storage": storage})
    number = 1
    while True:
        folder = home.absolute() / (name if number == 1 else f"{name}-in-storage-{number}")
        claim = folder / "claim.json"
        make_folder(folder)
        try:
            if not claim.exists():
                claim.write_text(mine, encoding="utf-8")
            if claim.read_text(encoding="utf-8") == mine:
                return folder
        except OSError as error:
            raise _not_writable(folder, error) from error
        number += 1


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        UserError: if it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> UserError:
    hint = "run autotune where it may write .autotune/"
    return UserError(f"{folder}: can't be written: {error.strerror}", hint=hint)
