"""What all commands that measure need: a display, a turn on this machine, a checked interpreter."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from autotuner.cli.browse import HOME
from autotuner.machine.lock import hold_machine
from autotuner.options.study_spec import StudySpec, Warm
from autotuner.report.progress import Display, make_progress
from autotuner.stages.session import Session, Store, Turn, open_session
from autotuner.statistics.sequential import StoppingRule
from autotuner.study.artifacts import ArtifactStore, artifact_store
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
    """Let no other tuning run measure on this machine at the same time.

    A study that no other process can reach has the machine to itself until it ends. The workers of
    a shared one take turns, trial by trial, with everything else that tunes here.

    Args:
        name: of what is tuned, for other runs that wait.
        display: shows which run this one waits for.
        shared: others can reach the study.
        wait: wait for another run to end, instead of raising.

    Raises:
        UserError: if another run holds the machine, and is not to be waited for.
    """
    with hold_machine(name, wait=wait, say=display.say):
        if not shared:
            yield contextlib.nullcontext
            return
    yield functools.partial(hold_machine, name, wait=True, say=lambda text: None)


def suited_to(confinement: Confinement, spec: StudySpec) -> StudySpec:
    """Return a specification without warm parents where scripts run as another user.

    A forked trial's warden would be that user's as well, so that a script could stop it.
    """
    return spec if confinement.user is None else dataclasses.replace(spec, warm=Warm.OFF)


def run_folder(kind: str) -> Path:
    """Return a folder under ``.autotune`` that no other run uses; it is not made."""
    return HOME.absolute() / kind / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def artifacts_of(display: Display) -> ArtifactStore | None:
    """Return where trials' files are kept; without it a study runs as well."""
    try:
        return artifact_store(HOME)
    except OSError as error:
        display.say(f"note: the dashboard will not have the trials' files: {error}")
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
