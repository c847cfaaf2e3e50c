"""Reading a ``best.json`` back, or any file with a configuration in the same form."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from autotuner.codec import CodecError, from_json
from autotuner.errors import UserError, did_you_mean
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Build, Configuration, IntRange, KnobValue
from autotuner.machine.host import Machine
from autotuner.options.study_spec import Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """A configuration from a file. ``holds_default``: it is TensorFlow's defaults written out.

    ``objective`` and ``phase``: what was measured; ``machine`` and ``build``: where it comes from.
    None where the file does not say.
    """

    path: Path
    configuration: Configuration
    holds_default: bool
    objective: str
    phase: str | None
    machine: Machine | None
    build: Build | None


def read_exported(path: Path, machine: Machine) -> Exported:
    """Read a file; only its ``configuration`` is needed.

    Raises:
        UserError: if it can't be read, or holds an unknown knob or a value that can't be set.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: can't be read: {reason}") from error
    except ValueError as error:
        hint = "it takes a best.json, not a best.env or best.py"
        raise UserError(f"{path}: not valid JSON: {error}", hint=hint) from error
    settings = document.get("configuration") if isinstance(document, dict) else None
    if not isinstance(settings, dict) or not settings:
        hint = 'it needs {"configuration": {"intra_op": 2}}'
        raise UserError(f"{path}: holds no configuration", hint=hint)
    configuration = {
        str(name): _checked(path, str(name), value, machine) for name, value in settings.items()
    }
    model = document.get("model")
    return Exported(
        path=path,
        configuration=configuration,
        objective=_objective(path, document),
        holds_default=document.get("holds") == "default",
        phase=model.get("phase") if isinstance(model, dict) else None,
        machine=_facts(document, "machine", lambda stored: from_json(Machine, stored)),
        build=_facts(document, "build", lambda stored: Build(**stored)),
    )


_Facts = TypeVar("_Facts")


def _facts(
    document: dict[str, Any], key: str, read: Callable[[dict[str, Any]], _Facts]
) -> _Facts | None:
    """Return facts that an export holds; None if a file was written by hand or by other means."""
    stored = document.get(key)
    try:
        return read(stored) if isinstance(stored, dict) else None
    except (TypeError, CodecError):
        return None


# field: what it is called; what a configuration depends on
_OF_MACHINE = {
    "cpu_model": "CPU",
    "usable_cpus": "CPUs to use",
    "physical_cores": "physical cores",
    "numa_nodes": "NUMA nodes",
}
_OF_BUILD = {"tensorflow": "TensorFlow", "package": "installed from", "openmp": "OpenMP runtime"}


def machine_differences(exported: Exported, machine: Machine) -> list[str]:
    """Return in what a machine differs from the one that a file was made on."""
    return _differences(_OF_MACHINE, exported.machine, machine)


def build_differences(exported: Exported, build: Build) -> list[str]:
    """Return in what a TensorFlow differs from the one that a file was made with."""
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
    result = document.get("result")
    found = result.get("objective") if isinstance(result, dict) else None
    known = [objective.value for objective in Objective]
    if found is not None and found not in known:
        raise UserError(f'{path}: unknown objective "{found}"', hint=did_you_mean(found, known))
    return found or Objective.THROUGHPUT.value


def _checked(path: Path, name: str, value: object, machine: Machine) -> KnobValue:
    """Return a value of a knob: in another machine's file it may lie outside this one's domain."""
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
