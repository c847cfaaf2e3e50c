"""Commands that show and remove studies, and list workloads and knobs."""

from pathlib import Path
from typing import Annotated

import typer

from autotuner.cli.commands.parameters import StorageOption, StudyArgument
from autotuner.cli.flags import choices, default

_REPORTS = ("html", "md", "json")


def list_studies(storage: StorageOption = None) -> None:
    """List all studies."""
    from autotuner.cli.browse import list_all

    list_all(storage_url=storage)


def show(
    study: StudyArgument,
    storage: StorageOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show all that the report shows, in full tables.")
    ] = False,
) -> None:
    """Show a study: its result and every trial."""
    from autotuner.cli.browse import show_study

    show_study(study, storage_url=storage, verbose=verbose)


def report(
    study: StudyArgument,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="html, md or json.",
            autocompletion=choices(_REPORTS),
        ),
    ] = "html",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="File to write."
            + default("report.html in the study's folder for html, else standard output"),
        ),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Write the report of a study: a page, Markdown for pull requests, or JSON."""
    from autotuner.cli.report import report_study

    report_study(study, kind=kind, output=output, storage_url=storage)


def compare_studies(
    first: Annotated[str, typer.Argument(metavar="A", help="Name of a study.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Name of another study.")],
    storage: StorageOption = None,
) -> None:
    """Show the results of two studies side by side."""
    from autotuner.cli.compare_studies import compare_studies

    compare_studies(first, second, storage_url=storage)


def dashboard(
    storage: StorageOption = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 takes a free one.")
    ] = 8080,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Permit no changes from the browser.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="AUTOTUNE_DASHBOARD_TOKEN",
            help="Token that visitors must give, on a login page or as a bearer token.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Further name of this server; may be repeated."),
    ] = None,
) -> None:
    """Browse studies in optuna-dashboard, also while one is running."""
    from autotuner.cli.dashboard import serve

    serve(
        storage_url=storage,
        host=host,
        port=port,
        allowed=allow_host or (),
        token=token,
        read_only=read_only,
    )


def clean(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY...", help="Studies to remove.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only those not used for this time, such as 30d; of all studies without names.",
        ),
    ] = None,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Forget the service's jobs that have ended.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove; without it, only list what would be removed.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Remove old studies with their files, folders whose studies are gone, and ended jobs."""
    from autotuner.cli.clean import clean

    clean(studies or (), older_than=older_than, jobs=jobs, yes=yes, storage_url=storage)


def workloads() -> None:
    """List the reference workloads."""
    from autotuner.cli.terminal import out_console
    from autotuner.options.workloads import list_workloads
    from autotuner.report.lists import workloads_table

    rows = [(name, spec.description) for name, spec in list_workloads().items()]
    out_console().print(workloads_table(rows))


def _knob_names(incomplete: str) -> list[str]:
    from autotuner.knobs.selection import known_names

    return choices(tuple(known_names()))(incomplete)


def knobs(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="Knobs, groups or tiers to describe in full.",
            autocompletion=_knob_names,
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Describe every knob in full.")
    ] = False,
) -> None:
    """List the knobs with their values on this machine."""
    from autotuner.cli.terminal import out_console
    from autotuner.knobs.catalogue import KNOBS
    from autotuner.knobs.selection import EVERYTHING, check_knob_names
    from autotuner.machine.host import inspect_machine
    from autotuner.report.lists import knob_lines, knobs_table

    asked = set(names or [EVERYTHING])
    check_knob_names(asked, where="autotune knobs")
    machine, console = inspect_machine(), out_console()
    described = [
        knob
        for knob in KNOBS.values()
        if asked & {knob.name, knob.group.value, knob.tier.value, EVERYTHING}
    ]
    console.print(f"machine: {machine.describe()}", markup=False)
    if names or verbose:
        for knob in described:
            console.print("\n" + "\n".join(knob_lines(knob, machine)), markup=False)
    else:
        console.print(knobs_table(described, machine))
        console.print("\nautotune knobs NAME describes one of them", markup=False)
