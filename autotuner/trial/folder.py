"""The folder of a trial: the request, the events, the log, and a script that repeats the trial."""

import json
import re
import shlex
import shutil
from pathlib import Path

from autotuner.errors import UserError
from autotuner.files import open_regular, write_whole
from autotuner.knobs.catalogue import MANAGED_VARIABLES, as_environment
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.request import CHILD_MAIN, TrialRequest, as_json

_LAST_LINES = 5
_TAIL_BYTES = 16_384
_FULL_BYTES = 65_536
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\t -\U0010ffff]")


def prepare_folder(
    folder: Path, request: TrialRequest, confinement: Confinement = UNCONFINED
) -> None:
    """Make the folder and write ``request.json`` and ``repro.sh``.

    Args:
        folder: the trial's folder.
        request: the trial's request.
        confinement: the trial's user.

    Raises:
        UserError: if the folder can't be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # its files hold arguments and the study's [environment]
        text = json.dumps(as_json(request), indent=1)
        written = folder / "request.json"
        write_whole(written, text + "\n")
        again = repro_script(folder, request, confinement)
        write_whole(folder / "repro.sh", again)
        confinement.admit(folder, written)
    except OSError as error:
        check_disk(folder)
        hint = "run autotune where it may write .autotune/, or free some space"
        raise UserError(f"{folder}: can't be written: {error.strerror}", hint=hint) from error


def child_argv(folder: Path, request: TrialRequest, *descriptors: int) -> list[str]:
    """Return the child's command line. ``descriptors``: of the child's events, and its orders."""
    numbers = [str(descriptor) for descriptor in descriptors]
    return [str(request.python), str(CHILD_MAIN), str(folder / "request.json"), *numbers]


def repro_script(folder: Path, request: TrialRequest, confinement: Confinement = UNCONFINED) -> str:
    """Return a shell script that repeats the trial as the same user.

    It holds only the variables that the trial sets: the user's environment may contain secrets.
    """
    variables = {**dict(request.environment), **as_environment(request.configuration)}
    unset = [name for name in MANAGED_VARIABLES if name not in variables]
    argv = [*confinement.prefix(), *child_argv(folder, request, 3)]
    lines = [
        "#!/bin/sh",
        "# Repeats this trial by hand; its windows go to events.repro.jsonl beside this file.",
        f"cd {shlex.quote(str(request.working_directory))} || exit 1",
        f"unset {' '.join(unset)}",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        f"exec {shlex.join(argv)} 3>{shlex.quote(str(folder / 'events.repro.jsonl'))} </dev/null",
    ]
    return "\n".join(lines) + "\n"


def check_disk(folder: Path) -> None:
    """Raise UserError if the disk of a folder is full: the trial did not cause the failure then."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if shutil.disk_usage(existing).free < _FULL_BYTES:
        hint = "free some space, then resume: autotune run --study NAME"
        raise UserError(f"{folder}: the disk is full", hint=hint)


def last_lines(log: Path) -> tuple[str, ...]:
    """Return the last few non-empty lines of a log, without control characters."""
    try:
        with open_regular(log) as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    cleaned = (_CONTROL.sub("", line).strip()[:300] for line in re.split(r"[\r\n]+", text))
    return tuple([line for line in cleaned if line][-_LAST_LINES:])
