"""Files that a study keeps with its trials, for the dashboard: logs as text, windows as CSV.

Never HTML or SVG: the dashboard serves artifacts inline, on its own origin.
"""

import csv
import io
import shutil
import tempfile
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from autotuner.files import create, open_regular, write_whole
from autotuner.trial.outcome import Outcome

ArtifactStore = FileSystemArtifactStore
TEXT, CSV = "text/plain", "text/csv"


def artifact_folder(home: Path) -> Path:
    """Return the folder of the store, which may not exist yet."""
    return home.absolute() / "artifacts"


def artifact_store(home: Path) -> ArtifactStore:
    """Return the store in ``.autotune/artifacts``, made if need be.

    Raises:
        OSError: if it can't be made.
    """
    folder = artifact_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def write_windows(outcome: Outcome) -> Path:
    """Write ``windows.csv`` into the trial's folder: the raw counts behind its throughput."""
    path, text = outcome.folder / "windows.csv", io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["stage", "start_s", "duration_s", "steps", "samples"])
    for window in outcome.windows:
        stage = "warm-up" if window.warmup else "measurement"
        row = [stage, window.start_s, window.duration_s, window.steps, window.samples]
        writer.writerow("" if value is None else value for value in row)
    write_whole(path, text.getvalue())
    return path


def keep_trial_files(store: ArtifactStore, trial: optuna.Trial, outcome: Outcome) -> None:
    """Keep a running trial's log and windows; Optuna takes no files for a finished trial.

    Raises:
        OSError: if they can't be read or kept.
    """
    if outcome.log.exists() and outcome.log.lstat().st_size:
        _upload(store, trial, outcome.log, TEXT)
    if outcome.windows:
        _upload(store, trial, write_windows(outcome), CSV)


def keep_study_files(store: ArtifactStore, study: optuna.Study, paths: list[Path]) -> None:
    """Keep exported files with the study, replacing those of an earlier run.

    Raises:
        OSError: if they can't be read or kept.
    """
    known = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    for path in paths:
        if path.name in known:
            with open_regular(path) as file:
                store.write(known[path.name], file)
        else:
            _upload(store, study, path, TEXT)


def _upload(
    store: ArtifactStore, to: optuna.Trial | optuna.Study, path: Path, mimetype: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:  # the path may lead elsewhere a moment later
        copy = Path(folder) / path.name
        with open_regular(path) as source, create(copy) as target:
            shutil.copyfileobj(source, target)
        upload_artifact(
            artifact_store=store, file_path=str(copy), study_or_trial=to, mimetype=mimetype
        )
