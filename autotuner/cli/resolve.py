"""From flags to a study specification: a file or workload first, flags over it."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from typing import TypeVar

from autotuner.errors import UserError, did_you_mean
from autotuner.knobs.catalogue import MANAGED_VARIABLES
from autotuner.knobs.selection import check_knob_names
from autotuner.options.duration import parse_duration
from autotuner.options.quantity import parse_bytes
from autotuner.options.study_spec import (
    Effort,
    Objective,
    Pairing,
    SamplerName,
    StepSource,
    StudySpec,
    Timing,
    Warm,
    check_batch_size,
    check_model,
    check_shapes,
    is_saved_model,
    load_study_file,
)
from autotuner.options.workloads import load_workload
from autotuner.trial.confinement import Confinement

_Name = TypeVar("_Name", SamplerName, StepSource, Effort, Objective, Warm)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What stands on the command line of ``autotune run``, unchecked; None: not given."""

    study_file: Path | None = None
    model: Path | None = None
    workload: str | None = None
    arguments: tuple[str, ...] = ()
    python: str | None = None
    study: str | None = None
    knobs: str | None = None
    trials: int | None = None
    budget: str | None = None
    sampler: str | None = None
    seed: int | None = None
    effort: str | None = None
    pairs: int | None = None
    objective: str | None = None
    max_memory: str | None = None
    max_latency_p99: str | None = None
    margin: float | None = None
    strict_numerics: bool | None = None
    sequential: bool | None = None
    warm: str | None = None
    measure: str | None = None
    phase: str | None = None
    measure_time: str | None = None
    start_timeout: str | None = None
    warmup_timeout: str | None = None
    measure_timeout: str | None = None
    batch_size: int | None = None
    shapes: tuple[str, ...] = ()


def base_spec(flags: Flags) -> StudySpec | None:
    """Return what the study file, the workload or the script alone says; None without any.

    Raises:
        UserError: if more than one is given, or the one given is no good.
    """
    given = [
        name
        for name, value in (
            ("a study file", flags.study_file),
            ("--model", flags.model),
            ("--workload", flags.workload),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: only one of them", hint="see autotune run --help")
    if flags.study_file is not None:
        if flags.study_file.suffix == ".py":
            hint = f"write: autotune run --model {flags.study_file}"
            raise UserError(f"{flags.study_file}: a script is given by --model", hint=hint)
        return load_study_file(flags.study_file)
    if flags.workload is not None:
        return load_workload(flags.workload)
    if flags.model is not None:
        return StudySpec(model=flags.model)
    return None


def _choice(text: str, names: type[_Name], flag: str) -> _Name:
    values = [name.value for name in names]
    if text not in values:
        raise UserError(f'{flag}: unknown value "{text}"', hint=did_you_mean(text, values))
    return names(text)


def apply_flags(spec: StudySpec, flags: Flags) -> StudySpec:
    """Return the specification with the flags over it, everything checked.

    Raises:
        UserError: for the first flag or value that is wrong.
    """
    changes: dict[str, object] = {"model": check_model(spec.model)}
    if flags.arguments:
        changes["arguments"] = flags.arguments
    if flags.python is not None:
        changes["python"] = Path(flags.python)
    if flags.study is not None:
        changes["name"] = flags.study
    if flags.knobs is not None:
        changes["knobs"] = tuple(k.strip() for k in flags.knobs.split(",") if k.strip())
    if flags.trials is not None:
        if flags.trials < 1:
            hint = "at least 1, which measures TensorFlow's defaults"
            raise UserError(f"--trials {flags.trials}: too few", hint=hint)
        changes["trials"] = flags.trials
    if flags.budget is not None:
        changes["budget_s"] = parse_duration(flags.budget, where="--budget")
        changes.setdefault("trials", None)
    if flags.sampler is not None:
        changes["sampler"] = _choice(flags.sampler, SamplerName, "--sampler")
    if flags.seed is not None:
        changes["seed"] = flags.seed
    if flags.measure is not None:
        changes["measure"] = _choice(flags.measure, StepSource, "--measure")
    if flags.phase is not None:
        changes["phase"] = flags.phase
    changes.update(_what_counts(flags))
    if flags.measure_time is not None:
        changes["measure_s"] = parse_duration(flags.measure_time, where="--measure-time")
    changes["timing"] = _timing(spec.timing, flags)
    if flags.batch_size is not None:
        changes["batch_size"] = check_batch_size(flags.batch_size, "--batch-size")
    if flags.shapes:
        changes["shapes"] = check_shapes(flags.shapes, "--shape")
    resolved = dataclasses.replace(spec, **changes)  # type: ignore[arg-type]
    check_knob_names(resolved.knobs)
    _check_saved_model(resolved)
    _check_environment(resolved)
    return resolved


def _what_counts(flags: Flags) -> dict[str, object]:
    """Return what the flags say of the effort, the objective, the limits and the verdict."""
    changes: dict[str, object] = {}
    if flags.effort is not None:
        changes["effort"] = _choice(flags.effort, Effort, "--effort")
    if flags.pairs is not None:
        if flags.pairs < 0:
            raise UserError(f"--pairs {flags.pairs}: less than nothing", hint="0: no final")
        changes["pairs"] = flags.pairs
    if flags.objective is not None:
        changes["objective"] = _choice(flags.objective, Objective, "--objective")
    if flags.max_memory is not None:
        changes["max_memory_bytes"] = parse_bytes(flags.max_memory, where="--max-memory")
    if flags.max_latency_p99 is not None:
        longest_s = parse_duration(flags.max_latency_p99, where="--max-latency-p99")
        changes["max_latency_p99_s"] = longest_s
    if flags.margin is not None:
        if not 0 < flags.margin < 1:
            raise UserError(
                f"--margin {flags.margin:g}: must be between 0 and 1", hint="0.03 is 3 %"
            )
        changes["margin"] = flags.margin
    if flags.strict_numerics is not None:
        changes["strict_numerics"] = flags.strict_numerics
    if flags.sequential:
        changes["pairing"] = Pairing.SEQUENTIAL
    if flags.warm is not None:
        changes["warm"] = _choice(flags.warm, Warm, "--warm")
    return changes


def _timing(timing: Timing, flags: Flags) -> Timing:
    given = {
        "start_timeout_s": ("--start-timeout", flags.start_timeout),
        "warmup_timeout_s": ("--warmup-timeout", flags.warmup_timeout),
        "measure_timeout_s": ("--measure-timeout", flags.measure_timeout),
    }
    seconds = {
        field: parse_duration(text, where=flag)
        for field, (flag, text) in given.items()
        if text is not None
    }
    return dataclasses.replace(timing, **seconds)


def confinement(user: str | None, memory: str | None, processes: int | None) -> Confinement:
    """Return what trials may use, and as whom they run, as options say it."""
    memory_bytes = None if memory is None else parse_bytes(memory, where="--trial-memory")
    return Confinement(user=user, memory_bytes=memory_bytes, processes=processes)


def _check_saved_model(spec: StudySpec) -> None:
    if is_saved_model(spec.model):
        if spec.arguments:
            raise UserError(f"{spec.model}: a saved model takes no arguments", hint="leave out --")
    elif spec.batch_size is not None or spec.shapes:
        hint = "pass them to the script after --, if it takes such"
        raise UserError("--batch-size and --shape are for saved models, not scripts", hint=hint)


def _check_environment(spec: StudySpec) -> None:
    for name, _ in spec.environment:
        if name in MANAGED_VARIABLES:
            hint = "take it out of the study's [environment]: it is searched"
            raise UserError(f"{name} is a knob", hint=hint)


def find_interpreter(python: Path | None) -> Path:
    """Return the absolute path of the user's interpreter, links kept: a venv's is a link.

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
