"""``autotune exec``: start a command with a configuration applied, with few imports."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from autotuner.errors import UserError
from autotuner.exec.command import prepare
from autotuner.export.exported import Exported, machine_differences, read_exported
from autotuner.knobs.catalogue import as_environment
from autotuner.machine.host import Machine, cpu_list, inspect_machine
from autotuner.plain import plain

# options of python that skip sitecustomize, which applies the settings
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
        raise UserError(f"{command[0]}: no such command", hint="check its spelling and PATH")
    _check_python(command)
    launch = prepare(exported, os.environ, force=force, verbose=verbose)
    if verbose:
        for name, value in sorted(as_environment(exported.configuration).items()):
            _print(f"{name}={value}")
        if launch.cpus is not None:
            _print(f"bound to CPUs {cpu_list(launch.cpus)}")
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
        _print(f"note: made on another machine: {line}")


def _check_python(command: Sequence[str]) -> None:
    if not Path(command[0]).name.startswith("python"):
        return
    for option in command[1:]:
        if not option.startswith("-") or option in ("-c", "-m"):
            return
        if _ISOLATED.fullmatch(option):
            hint = "settings are applied by sitecustomize and PYTHONPATH, which it ignores"
            raise UserError(f"{command[0]} {option}: can't be tuned from outside", hint=hint)


def _print(text: str) -> None:
    sys.stderr.write(plain(f"autotune exec: {text}") + "\n")
