"""``autotune exec`` and ``autotune check``: apply a configuration, and see what takes effect."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from autotuner.cli.resolve import find_interpreter
from autotuner.errors import UserError
from autotuner.export.exported import Exported, machine_differences, read_exported
from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.launch.check import Effect, check
from autotuner.launch.command import prepare
from autotuner.machine import Machine, cpu_list, inspect_machine
from autotuner.report.effects import effects_as_json, effects_table, summary

# options of python that make it skip sitecustomize, by which the settings come in
_ISOLATED = re.compile(r"-[a-zA-Z]*[IES]")


def execute(best: Path, command: Sequence[str], *, force: bool, verbose: bool) -> None:
    """Replace this process by the command; returns only by raising.

    Raises:
        UserError: if there is no such command, or the file was made on another machine.
    """
    if not command:
        raise UserError("nothing to run", hint="autotune exec best.json -- python mymodel.py")
    machine = inspect_machine()
    exported = read_exported(best, machine)
    _check_machine(exported, machine, force=force)
    program = shutil.which(command[0])
    if program is None:
        raise UserError(f"{command[0]}: no such command", hint="write it after --")
    _check_python(command)
    launch = prepare(exported, os.environ, force=force, verbose=verbose)
    if verbose:
        for name, value in sorted(as_environment(exported.configuration).items()):
            _say(f"{name}={value}")
        if launch.cpus is not None:
            _say(f"bound to CPUs {cpu_list(launch.cpus)}")
    if launch.cpus is not None:
        os.sched_setaffinity(0, launch.cpus)
    sys.stderr.flush()
    os.execve(program, list(command), launch.environment)


def _check_machine(exported: Exported, machine: Machine, *, force: bool) -> None:
    found = machine_differences(exported, machine)
    if found and not force:
        hint = "tune here (autotune run), or give --force"
        raise UserError(f"{exported.path} is for another machine: {'; '.join(found)}", hint=hint)
    for line in found:
        _say(f"note: made on another machine: {line}")


def _check_python(command: Sequence[str]) -> None:
    if not Path(command[0]).name.startswith("python"):
        return
    for option in command[1:]:
        if not option.startswith("-") or option in ("-c", "-m"):
            return
        if _ISOLATED.fullmatch(option):
            hint = "settings come in by sitecustomize and PYTHONPATH, which it ignores"
            raise UserError(f"{command[0]} {option}: can't be tuned from outside", hint=hint)


def _say(text: str) -> None:
    sys.stderr.write(f"autotune exec: {text}\n")


def check_file(best: Path, *, python: str | None, as_json: bool) -> bool:
    """Carry out ``autotune check``; return whether everything that is set takes effect here.

    Raises:
        UserError: if the file can't be read, or no TensorFlow can be started.
    """
    machine = inspect_machine()
    exported = read_exported(best, machine)
    interpreter = find_interpreter(None if python is None else Path(python))
    found = check(exported, machine, interpreter, dict(os.environ))
    good = not found.differences and not any(e.effect is Effect.NONE for e in found.effects)
    if as_json:
        sys.stdout.write(effects_as_json(found) + "\n")
        return good
    console = Console(highlight=False, soft_wrap=True)
    for line in found.differences:
        console.print(f"differs: {line}", markup=False)
    if not found.differences:
        known = exported.machine is not None and exported.build is not None
        console.print(
            "machine and TensorFlow are those that the file was made with"
            if known
            else "the file does not say on which machine it was made"
        )
    console.print(effects_table(found.effects, KNOBS), soft_wrap=False)
    console.print(summary(found.effects), markup=False)
    return good
