"""Removing old studies: their trials, their folders, their files in the artifact store."""

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from optuna.artifacts import get_all_artifact_meta
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from autotuner.errors import UserError
from autotuner.options.names import is_reserved
from autotuner.study.artifacts import ArtifactStore
from autotuner.study.folders import marked_folders, remove_folder
from autotuner.study.memory import SPEC, UNFINISHED_SINCE, Memory
from autotuner.study.studies import is_idle, load_study, study_names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Removable:
    """A study that can be removed.

    ``gone``: it is not in the storage any more; only its folder is left. ``folder``: None if there
    is none here. ``used``: the time of its last use. ``running``: it can't be removed now.
    """

    study: str
    folder: Path | None
    trials: int
    size_bytes: int
    used: datetime | None
    running: bool = False
    gone: bool = False


def find_removable(
    storage: BaseStorage,
    home: Path,
    storage_name: str,
    *,
    names: Collection[str],
    older_than_s: float | None,
) -> list[Removable]:
    """Return the studies with these names, or all; without names, folders without a study, too.

    Studies that autotune did not make are left out; those of its other versions are not.

    Raises:
        UserError: if there is no study of a name, or autotune did not make it.
    """
    for name in names:
        if not Memory(load_study(storage, name)).has(SPEC):
            hint = "remove it with Optuna: optuna delete-study"
            if is_reserved(name):
                raise UserError(f'"{name}" is the service\'s queue', hint="autotune clean --jobs")
            raise UserError(f'study "{name}" was not made by autotune', hint=hint)
    known = study_names(storage)
    folders = {study: folder for folder, study in marked_folders(home, storage_name)}
    found = []
    for name in known:
        study = load_study(storage, name)
        if not Memory(study).has(SPEC):
            continue
        one = _of_study(study, folders.get(name))
        wanted = name in names if names else older_than_s is not None
        if wanted and (older_than_s is None or _is_older(one.used, older_than_s)):
            found.append(one)
    if names:
        return found
    gone = {study: folder for study, folder in folders.items() if study not in known}
    return [*found, *_leftovers(gone)]


def _of_study(study: optuna.Study, folder: Path | None) -> Removable:
    trials = study.get_trials(deepcopy=False)
    times = [time for t in trials for time in (t.datetime_start, t.datetime_complete) if time]
    begun = Memory(study).read(UNFINISHED_SINCE)  # of a run that may have no trials yet
    if begun is not None:
        times.append(begun)
    return Removable(
        study=study.study_name,
        folder=folder,
        trials=len(trials),
        size_bytes=0 if folder is None else _size(folder),
        used=max(times, default=None),
        running=not is_idle(study),
    )


def _is_older(used: datetime | None, seconds: float) -> bool:
    return used is None or datetime.now() - used > timedelta(seconds=seconds)


def _leftovers(gone: Mapping[str, Path]) -> list[Removable]:
    """Return the folders of studies that no longer exist, by the studies' names."""
    return [
        Removable(
            study=study,
            folder=folder,
            trials=0,
            size_bytes=_size(folder),
            used=datetime.fromtimestamp(folder.stat().st_mtime),
            gone=True,
        )
        for study, folder in gone.items()
    ]


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.lstat().st_blocks * 512
    return total


def remove(
    storage: BaseStorage,
    home: Path,
    storage_name: str,
    one: Removable,
    artifacts: ArtifactStore | None,
) -> None:
    """Remove a study's files, the study, and its folder last, so a removal can be repeated."""
    if not one.gone:
        study = load_study(storage, one.study)
        if artifacts is not None:
            holders: list[optuna.Study | FrozenTrial] = [study, *study.get_trials(deepcopy=False)]
            for holder in holders:
                for meta in get_all_artifact_meta(holder, storage=storage):
                    with contextlib.suppress(optuna.artifacts.exceptions.ArtifactNotFound):
                        artifacts.remove(meta.artifact_id)
        optuna.delete_study(study_name=one.study, storage=storage)
    if one.folder is not None:
        remove_folder(home, one.folder, one.study, storage_name)
