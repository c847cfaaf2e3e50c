"""The identity of a study, stored in it: trials of different identities are never mixed."""

import dataclasses
import hashlib
import shlex
from pathlib import Path

from autotuner.knobs.knob import Build
from autotuner.machine.host import Machine
from autotuner.options.study_spec import StudySpec
from autotuner.trial.request import arguments_of


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
        model_sha256=model_digest(spec.model),
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


def model_digest(model: Path) -> str:
    """Return the SHA-256 of a file; of a SavedModel's folder, that of its files' contents."""
    digest = hashlib.sha256()
    for file in sorted(model.rglob("*")) if model.is_dir() else [model]:
        if file.is_file():
            with file.open("rb") as content:
                while block := content.read(2**20):
                    digest.update(block)
    return digest.hexdigest()
