"""Where studies keep their files: ``.autotune/studies/NAME``, each folder with a marker.

The marker names the study and its storage. Nothing is removed without it, and no path comes from
the database: a copied ``.autotune`` has folders of its own.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from autotuner.errors import UserError
from autotuner.files import create, open_regular

HOME = Path(".autotune")
"""The folder of all that autotune keeps, in the working directory."""

_MARKER = "study.json"
_MOST_BYTES = 65_536
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?<!\.)")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def folder_name(study: str) -> str:
    """Return the name of a study's folder: readable, safe, and different for different names.

    A plain name is kept. Any other one gets a tilde, which no plain name has, and a digest.
    """
    if _PLAIN.fullmatch(study):
        return study
    digest = hashlib.sha256(study.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{_UNSAFE.sub('-', study).strip('-')[:40] or 'study'}~{digest}"


def claim_folder(home: Path, study: str, storage: str) -> Path:
    """Return the folder of a study's files, made and marked if need be.

    Two storages may hold studies of the same name, whose files are kept apart.

    Args:
        home: the ``.autotune`` folder.
        study: the study's name.
        storage: identifies the storage, without its password.

    Raises:
        UserError: if the folder can't be written.
    """
    mine = _marker(study, storage)
    for folder in _places(home, study):
        make_folder(folder)
        try:
            _write_marker(folder, mine)
        except OSError as error:
            raise _not_writable(folder, error) from error
        if read_marker(folder) == mine:
            return folder
    raise AssertionError("there is always another place")


def marked_folders(home: Path, storage: str) -> Iterator[tuple[Path, str]]:
    """Yield the folders that a storage's studies have here, each with its study's name."""
    for marker in sorted(_studies(home).glob(f"*/{_MARKER}")):
        found = read_marker(marker.parent)
        if found is not None and found["storage"] == storage:
            yield marker.parent, found["study"]


def remove_folder(home: Path, folder: Path, study: str, storage: str) -> bool:
    """Remove a study's folder, and return whether that was done.

    It stays unless it lies directly in the folder of all studies and carries the study's marker.
    """
    # a copied link would lead to the original's folders
    if folder.parent != _studies(home) or folder.is_symlink() or folder.parent.is_symlink():
        return False
    if read_marker(folder) != _marker(study, storage):
        return False
    marker = folder / _MARKER
    for entry in folder.iterdir():  # the marker goes last, so a removal can be repeated
        if entry != marker:
            _remove(entry)
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _write_marker(folder: Path, marker: Mapping[str, str]) -> None:
    """Write a folder's marker whole, unless there is one: another process may be about to read."""
    if (folder / _MARKER).exists():
        return
    own = folder / f".{_MARKER}-{os.getpid()}"
    with create(own) as file:
        file.write(json.dumps(marker).encode())
    try:
        os.link(own, folder / _MARKER)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        own.replace(folder / _MARKER)
    own.unlink(missing_ok=True)


def read_marker(folder: Path) -> dict[str, str] | None:
    """Return the study and the storage of a folder; None if it carries no marker."""
    try:
        with open_regular(folder / _MARKER) as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(found, dict) and all(isinstance(v, str) for v in found.values())
    return found if known and set(found) == {"study", "storage"} else None


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        UserError: if it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


def from_here(folder: Path) -> Path:
    """Return a path from the working directory, as it is stored and shown."""
    return Path(os.path.relpath(folder))


def _studies(home: Path) -> Path:
    return home.absolute() / "studies"


def _places(home: Path, study: str) -> Iterator[Path]:
    """Yield where a study's folder may be: the first is taken if another storage has a namesake."""
    name, number = folder_name(study), 1
    while True:
        yield _studies(home) / (name if number == 1 else f"{name}~{number}")
        number += 1


def _marker(study: str, storage: str) -> dict[str, str]:
    return {"study": study, "storage": storage}


def _not_writable(folder: Path, error: OSError) -> UserError:
    hint = "run autotune where it may write .autotune/"
    return UserError(f"{folder}: can't be written: {error.strerror}", hint=hint)
