"""What all commands that measure need: a display, turns on this machine, folders, a session."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from autotuner.machine.lock import hold_machine
from autotuner.options.study_spec import StudySpec, Warm
from autotuner.report.progress import Display, make_progress
from autotuner.stages.session import Session, Store, Turn, open_session
from autotuner.statistics.sequential import StoppingRule
from autotuner.study.artifacts import ArtifactStore, artifact_store
from autotuner.study.folders import HOME
from autotuner.study.storage import in_memory_storage
from autotuner.study.studies import create_study
from autotuner.study.target import Target
from autotuner.trial.confinement import Confinement
from autotuner.trial.runner import ProcessRunner


@contextmanager
def open_display(rule: StoppingRule, *, as_json: bool) -> Iterator[Display]:
    """Show progress while the context lasts."""
    console = Console(stderr=True, highlight=False)
    display = make_progress(as_json=as_json, console=console, rule=rule)
    try:
        yield display
    finally:
        display.close()


@contextmanager
def measuring(name: str, display: Display, *, shared: bool, wait: bool) -> Iterator[Turn]:
    """Keep other tuning runs from measuring on this machine at the same time.

    A study that no other process can reach holds the machine until it ends. The workers of a shared
    study take turns, trial by trial, with all other tuning runs on this machine.

    Args:
        name: of the study, shown to other runs that wait.
        display: shows which run this one waits for.
        shared: other workers can reach the study.
        wait: wait for another run to end, instead of raising.

    Raises:
        UserError: if another run holds the machine, and ``wait`` is false.
    """
    with hold_machine(name, wait=wait, report=display.remark):
        if not shared:
            yield contextlib.nullcontext
            return
    yield functools.partial(hold_machine, name, wait=True, report=lambda text: None)


def suited_to(confinement: Confinement, spec: StudySpec) -> StudySpec:
    """Return a specification without warm parents where scripts run as another user.

    A forked trial's warden would run as the same user, so a script could stop it.
    """
    return spec if confinement.user is None else dataclasses.replace(spec, warm=Warm.OFF)


def run_folder(kind: str) -> Path:
    """Return the path of a folder under ``.autotune`` that no other run uses."""
    return HOME.absolute() / kind / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def artifacts_of(display: Display) -> ArtifactStore | None:
    """Return the store of trials' files; None if it can't be made: studies run without it."""
    try:
        return artifact_store(HOME)
    except OSError as error:
        display.remark(f"note: the dashboard will not have the trials' files: {error}")
        return None


@contextmanager
def open_passing_session(
    name: str, target: Target, runner: ProcessRunner, display: Display
) -> Iterator[Session]:
    """Open a session whose study ends with this process."""
    storage = in_memory_storage()
    store = Store(study=create_study(storage, name, target.spec.objective), storage=storage)
    with open_session(target, store, runner, display) as session:
        yield session
