"""Which scripts may be submitted: files below one folder, whatever a path says."""

from pathlib import Path, PurePosixPath

from autotuner.spec.study_spec import is_saved_model

_LONGEST = 500
_SUFFIXES = (".py", ".keras", ".h5")
_MOST_LISTED = 1000


class ForbiddenScriptError(Exception):
    """A path that may not be tuned; the text says why, for the one who asked."""


def find_script(models: Path, asked: str) -> Path:
    """Return the absolute path of a script, all links followed.

    Args:
        models: the folder below which it has to lie.
        asked: a path relative to it.

    Raises:
        ForbiddenScriptError: if there is no such script there, or it leads out of the folder.
    """
    if not asked or len(asked) > _LONGEST or not asked.isprintable():
        raise ForbiddenScriptError("script: not a path")
    path = PurePosixPath(asked)
    if path.is_absolute() or ".." in path.parts or "\\" in asked:
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
    """Return what can be submitted, as paths relative to the folder."""
    root, found = models.resolve(), []
    for path in sorted(root.rglob("*")):
        if len(found) == _MOST_LISTED:
            break
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(root).parts)
        if not hidden and _is_tunable(path) and path.resolve().is_relative_to(root):
            found.append(path.relative_to(root).as_posix())
    return found
