"""Commands that tune: ``run``, ``worker``, ``doctor``."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Annotated

import typer

from autotuner.cli.commands.parameters import (
    ExportAnywayOption,
    JsonOption,
    RunAsOption,
    StorageOption,
    TrialMemoryOption,
    TrialProcessesOption,
    WaitOption,
)
from autotuner.cli.flags import Flags, default, study_options
from autotuner.errors import UserError
from autotuner.options.option import Group, Place
from autotuner.options.table import OPTIONS

_SCRIPT = [OPTIONS[key] for key in ("model", "batch_size", "shapes", "python", "environment")]
_JOINED = dataclasses.replace(OPTIONS["study"], help="Name of the study.", default=None)
STUDY_OPTIONS = [option for option in OPTIONS.values() if Place.FLAG in option.places]


@contextlib.contextmanager
def _errors_as_events(as_json: bool) -> Iterator[None]:
    """Write an error as an event as well, where standard output is for machines."""
    try:
        yield
    except UserError as error:
        if as_json:
            from autotuner.report.progress import JsonProgress

            JsonProgress().error(error.message, error.hint)
        raise


@study_options(*STUDY_OPTIONS, study_file=True)
def run(
    flags: Flags,
    storage: StorageOption = None,
    import_trials: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Let the sampler learn from the trials of another study of this storage.",
            rich_help_panel=Group.SEARCH,
        ),
    ] = None,
    export_anyway: ExportAnywayOption = False,
    run_as: RunAsOption = None,
    trial_memory: TrialMemoryOption = None,
    trial_processes: TrialProcessesOption = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tune a script: try configurations, compare the best with the defaults, write the files."""
    from autotuner.cli.resolve import confinement
    from autotuner.cli.run_study import run_study

    with _errors_as_events(as_json):
        run_study(
            flags,
            storage_url=storage,
            import_from=import_trials,
            as_json=as_json,
            wait=wait,
            export_anyway=export_anyway,
            confinement=confinement(run_as, trial_memory, trial_processes),
        )


@study_options(*_SCRIPT, _JOINED, study_file=True)
def worker(
    flags: Flags,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the study is: postgresql://... or grpc://HOST:PORT.",
            envvar="AUTOTUNE_STORAGE",
            show_envvar=False,
            rich_help_panel=Group.SEARCH,
        ),
    ] = None,
    machine_class: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="Properties in which this machine may differ from the study's, separated by "
            "commas: cpu, cores, quota, memory, isa." + default("none"),
            rich_help_panel=Group.SEARCH,
        ),
    ] = None,
    wait_for_study: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time to wait for the study to begin." + default("0s"),
            rich_help_panel=Group.SEARCH,
        ),
    ] = None,
    run_as: RunAsOption = None,
    trial_memory: TrialMemoryOption = None,
    trial_processes: TrialProcessesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join a study of `autotune run`, from this or another machine, and work on it to its end."""
    from autotuner.cli.resolve import confinement
    from autotuner.cli.worker import work

    with _errors_as_events(as_json):
        if storage is None:
            hint = "--storage postgresql://USER@HOST/DATABASE, as given to autotune run"
            raise UserError("--storage is missing", hint=hint)
        work(
            flags,
            storage_url=storage,
            machine_class=machine_class,
            wait_for_study=wait_for_study,
            as_json=as_json,
            confinement=confinement(run_as, trial_memory, trial_processes),
        )


@study_options(*_SCRIPT, *(OPTIONS[key] for key in ("phase", "pairing", "measure_time")))
def doctor(flags: Flags, wait: WaitOption = False, as_json: JsonOption = False) -> None:
    """Check machine and script: what matters, which knobs work here, what the bottleneck is."""
    from autotuner.cli.doctor import examine

    examine(flags, as_json=as_json, wait=wait)
