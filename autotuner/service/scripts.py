"""Scripts that may be submitted: files below one folder, whatever path a client sends."""

import os
from pathlib import Path, PurePosixPath

from autotuner.options.study_spec import is_saved_model

_LONGEST = 500
_SUFFIXES = (".py", ".keras", ".h5")
_MOST_LISTED = 1000
_MOST_LOOKED_AT = 20_000


class ForbiddenScriptError(Exception):
    """A path that may not be tuned; the text is the reason, for the client."""


def find_script(models: Path, wanted: str) -> Path:
    """Return the absolute path of a script, all links followed.

    Args:
        models: the folder below which it has to lie.
        wanted: a path relative to it.

    Raises:
        ForbiddenScriptError: if there is no such script there, or it leads out of the folder.
    """
    if not wanted or len(wanted) > _LONGEST or not wanted.isprintable():
        raise ForbiddenScriptError("script: not a path")
    path = PurePosixPath(wanted)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in wanted:
        raise ForbiddenScriptError("script: must be a path below the service's folder of models")
    root = models.resolve()
    try:
        found = (root / path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ForbiddenScriptError("script: there is no such file") from error
    if not found.is_relative_to(root):
        raise ForbiddenScriptError("script: it leads out of the service's folder of models")
    if not _is_tunable(found):
        raise ForbiddenScriptError("script: neither a Python script nor a saved model")
    return found


def _is_tunable(path: Path) -> bool:
    return is_saved_model(path) if path.is_dir() else path.is_file() and path.suffix in _SUFFIXES


def list_scripts(models: Path) -> list[str]:
    """Return the scripts that can be submitted, relative to the folder, up to a limit."""
    root, found, looked_at = models.resolve(), list[str](), 0
    for folder, folders, files in os.walk(root):  # follows no links
        here = Path(folder)
        folders[:] = [name for name in folders if _is_shown(name)]
        saved = [name for name in folders if is_saved_model(here / name)]
        folders[:] = sorted(set(folders) - set(saved))  # files in a saved model are no scripts
        looked_at += len(folders) + len(saved) + len(files)
        for path in (here / name for name in (*saved, *filter(_is_shown, files))):
            if _is_tunable(path) and path.resolve().is_relative_to(root):
                found.append(path.relative_to(root).as_posix())
        if len(found) >= _MOST_LISTED or looked_at >= _MOST_LOOKED_AT:
            break
    return sorted(found)[:_MOST_LISTED]


def _is_shown(name: str) -> bool:
    return not name.startswith((".", "__")) and name.isprintable()  # others can't be submitted
