"""What a study was made of, kept in it, so that trials of different things are never mixed."""

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import psutil

from autotuner.knobs.knob import Build
from autotuner.machine import Machine
from autotuner.spec.study_spec import StudySpec

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

    def differences(self, other: "Identity") -> list[str]:
        """Return one line for each field in which the other one differs."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [
            f"{field}: {mine[field]!r} in the study, now {theirs[field]!r}"
            for field in mine
            if mine[field] != theirs[field]
        ]


def identify(spec: StudySpec, machine: Machine, build: Build) -> Identity:
    """Return the identity of a study that is to be made or resumed now."""
    return Identity(
        model=str(spec.model),
        model_sha256=hashlib.sha256(spec.model.read_bytes()).hexdigest(),
        arguments=spec.arguments,
        measure=spec.measure.value,
        phase=spec.phase,
        environment=spec.environment,
        machine=f"{machine.host}: {machine.describe()}",
        tensorflow=build.tensorflow,
        python=build.python,
    )


def identity_from(stored: dict[str, Any]) -> Identity:
    """Read an identity back from a study's user attributes."""
    fields = dict(stored)
    fields["arguments"] = tuple(fields["arguments"])
    fields["environment"] = tuple((name, value) for name, value in fields["environment"])
    return Identity(**fields)


def owner() -> str:
    """Return who runs a trial, as JSON: boot, process and its start, to tell a dead owner."""
    process = psutil.Process()
    fields = {
        "boot": _boot_id(),
        "pid": os.getpid(),
        "started": round(process.create_time(), 2),
    }
    return json.dumps(fields)


def is_alive(owner_text: str) -> bool:
    """Tell whether the process that runs a trial is still there, on this machine."""
    try:
        fields = json.loads(owner_text)
        process = psutil.Process(fields["pid"])
        same_start = abs(process.create_time() - fields["started"]) < 1
        return bool(fields["boot"] == _boot_id() and same_start)
    except (ValueError, KeyError, TypeError, psutil.Error):
        return False


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def folder_name(study: str) -> str:
    """Return a folder name for a study: readable, safe, and different for different names."""
    safe = _SAFE.sub("-", study).strip(".-")[:80]
    if safe == study:
        return study
    return f"{safe or 'study'}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"


def study_folder(home: Path, name: str) -> Path:
    """Return the folder of a study's files under ``.autotune``."""
    return home.absolute() / folder_name(name)
