"""Reading a ``best.json`` back, or any file with a configuration in the same form."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from autotuner.codec import CodecError, from_json
from autotuner.errors import UserError, did_you_mean
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Build, Configuration, IntRange, KnobValue
from autotuner.machine.host import Machine
from autotuner.options.study_spec import Objective
from autotuner.options.text_file import read_text_file

SCHEMA = 2
BEST, DEFAULTS = "best", "default"
"""What a file may hold: the best configuration of a study, or TensorFlow's defaults."""

_Facts = TypeVar("_Facts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """A configuration from a file. ``holds_default``: it is TensorFlow's defaults.

    ``objective`` and ``phase``: what was measured; ``machine`` and ``build``: on what it was
    measured. None where the file lacks them.
    """

    path: Path
    configuration: Configuration
    holds_default: bool
    objective: str
    phase: str | None
    machine: Machine | None
    build: Build | None


def read_exported(path: Path, machine: Machine) -> Exported:
    """Read a file; only its ``configuration`` is required.

    Raises:
        UserError: if it can't be read, or holds an unknown knob or a value that can't be set.
    """
    document = _read(path)
    settings = document.get("configuration")
    if not isinstance(settings, dict) or not settings:
        hint = 'it needs {"configuration": {"intra_op": 2}}'
        raise UserError(f"{path}: holds no configuration", hint=hint)
    return Exported(
        path=path,
        configuration={name: _checked(path, name, v, machine) for name, v in settings.items()},
        holds_default=document.get("holds") == DEFAULTS,
        objective=_objective(path, document),
        phase=_part(document, "model").get("phase"),
        machine=_facts(document, "machine", Machine),
        build=_facts(document, "build", Build),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_text_file(path))
    except (ValueError, RecursionError) as error:
        hint = "it takes a best.json, not a best.env or best.py"
        raise UserError(f"{path}: not valid JSON: {error}", hint=hint) from error
    if not isinstance(document, dict):
        return {}
    schema = document.get("schema", SCHEMA)  # files that were written by hand have none
    if schema != SCHEMA:
        hint = "export it again with this version of autotune"
        raise UserError(f"{path}: schema {schema!r}, but this autotune reads {SCHEMA}", hint=hint)
    return document


def _part(document: dict[str, Any], key: str) -> dict[str, Any]:
    part = document.get(key)
    return part if isinstance(part, dict) else {}


def _facts(document: dict[str, Any], key: str, kind: type[_Facts]) -> _Facts | None:
    """Return facts in a file; None in one that was written by hand or by another program."""
    try:
        return from_json(kind, document[key])
    except (CodecError, KeyError):
        return None


# what a configuration depends on: fields and their names
_OF_MACHINE = {
    "cpu_model": "CPU",
    "usable_cpus": "usable CPUs",
    "physical_cores": "physical cores",
    "numa_nodes": "NUMA nodes",
}
_OF_BUILD = {"tensorflow": "TensorFlow", "package": "installed from", "openmp": "OpenMP runtime"}


def machine_differences(exported: Exported, machine: Machine) -> list[str]:
    """Return the differences of a machine from the one that a file was made on."""
    return _differences(_OF_MACHINE, exported.machine, machine)


def build_differences(exported: Exported, build: Build) -> list[str]:
    """Return the differences of a TensorFlow from the one that a file was made with."""
    return _differences(_OF_BUILD, exported.build, build)


def _differences(fields: dict[str, str], there: object | None, here: object) -> list[str]:
    if there is None:
        return []
    pairs = {name: (getattr(there, field), getattr(here, field)) for field, name in fields.items()}
    return [
        f"{name}: {theirs or 'none'} there, {ours or 'none'} here"
        for name, (theirs, ours) in pairs.items()
        if theirs != ours
    ]


def _objective(path: Path, document: dict[str, Any]) -> str:
    found = _part(document, "result").get("objective") or Objective.THROUGHPUT.value
    known = [objective.value for objective in Objective]
    if found not in known:
        hint = did_you_mean(str(found), known)
        raise UserError(f'{path}: unknown objective "{found}"', hint=hint)
    return str(found)


def _checked(path: Path, name: str, value: object, machine: Machine) -> KnobValue:
    """Return a knob's value, which may lie outside of its domain on this machine."""
    knob = KNOBS.get(name)
    if knob is None:
        raise UserError(f'{path}: unknown knob "{name}"', hint=did_you_mean(name, list(KNOBS)))
    domain = knob.domain(machine)
    if isinstance(domain, IntRange):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{path}: {name}: expected a whole number of at least 1, got {value!r}")
        return value
    text = str(value)
    if text not in domain.options and not text.isdecimal():
        options = ", ".join(domain.options)
        raise UserError(f"{path}: {name}: {value!r} is none of {options}")
    return text
