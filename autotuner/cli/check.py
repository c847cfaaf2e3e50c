"""``autotune check``: which settings of a configuration take effect."""

import json
import os
import sys
from pathlib import Path

from rich.console import Console

from autotuner.cli.resolve import find_interpreter
from autotuner.codec import to_json
from autotuner.exec.check import Effect, check
from autotuner.export.exported import read_exported
from autotuner.knobs.catalogue import KNOBS
from autotuner.machine.host import inspect_machine
from autotuner.plain import plain
from autotuner.report.check_report import effects_table, summary


def check_file(best: Path, *, python: str | None, as_json: bool) -> bool:
    """Check a file; return whether every setting takes effect here.

    Raises:
        UserError: if the file can't be read, or no TensorFlow can be started.
    """
    machine = inspect_machine()
    exported = read_exported(best, machine)
    interpreter = find_interpreter(None if python is None else Path(python))
    found = check(exported, machine, interpreter, dict(os.environ))
    good = not found.differences and not any(e.effect is Effect.NONE for e in found.effects)
    if as_json:
        sys.stdout.write(json.dumps(to_json(found), indent=2) + "\n")
        return good
    console = Console(highlight=False, soft_wrap=True)
    for line in found.differences:
        console.print(plain(f"differs: {line}"), markup=False)
    if not found.differences:
        known = exported.machine is not None and exported.build is not None
        console.print(
            "machine and TensorFlow are those of the file"
            if known
            else "the file does not name the machine that it was made on"
        )
    console.print(effects_table(found.effects, KNOBS), soft_wrap=False)
    console.print(summary(found.effects), markup=False)
    return good
