"""The folder of a trial: the request, the events, the log, and a script that repeats it."""

import json
import re
import shlex
import shutil
from pathlib import Path

from autotuner.errors import UserError
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
        folder: the trial's.
        request: what it is to do.
        confinement: as whom it runs.

    Raises:
        UserError: if the folder can't be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # arguments and the study's [environment] stand in its files
        text = json.dumps(as_json(request), indent=1)
        asked = folder / "request.json"
        asked.write_text(text + "\n", encoding="utf-8")
        again = repro_script(folder, request, confinement)
        (folder / "repro.sh").write_text(again, encoding="utf-8")
        confinement.admit(folder, asked)
    except OSError as error:
        check_disk(folder)
        hint = "run autotune where it may write .autotune/, or free some space"
        raise UserError(f"{folder}: can't be written: {error.strerror}", hint=hint) from error


def child_argv(folder: Path, request: TrialRequest, *descriptors: int) -> list[str]:
    """Return the child's command line; descriptors: for its events, and for orders to it."""
    numbers = [str(descriptor) for descriptor in descriptors]
    return [str(request.python), str(CHILD_MAIN), str(folder / "request.json"), *numbers]


def repro_script(folder: Path, request: TrialRequest, confinement: Confinement = UNCONFINED) -> str:
    """Return a shell script that runs the trial once more, as the same user.

    It holds only what the trial sets, not the user's environment, which may have secrets in it.
    """
    setting = {**dict(request.environment), **as_environment(request.configuration)}
    unset = [name for name in MANAGED_VARIABLES if name not in setting]
    argv = [*confinement.prefix(), *child_argv(folder, request, 3)]
    lines = [
        "#!/bin/sh",
        "# Repeats this trial by hand; its windows go to events.repro.jsonl beside this file.",
        f"cd {shlex.quote(str(request.working_directory))} || exit 1",
        f"unset {' '.join(unset)}",
        *(f"export {name}={shlex.quote(value)}" for name, value in setting.items()),
        f"exec {shlex.join(argv)} 3>{shlex.quote(str(folder / 'events.repro.jsonl'))} </dev/null",
    ]
    return "\n".join(lines) + "\n"


def check_disk(folder: Path) -> None:
    """Raise UserError if the disk of a folder is full: a failure is then not the trial's."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if shutil.disk_usage(existing).free < _FULL_BYTES:
        hint = "free some space, then go on: autotune run --study NAME"
        raise UserError(f"{folder}: the disk is full", hint=hint)


def last_lines(log: Path) -> tuple[str, ...]:
    """Return the last few lines of a log that say something, made safe for a terminal."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    cleaned = (_CONTROL.sub("", line).strip()[:300] for line in re.split(r"[\r\n]+", text))
    return tuple([line for line in cleaned if line][-_LAST_LINES:])
