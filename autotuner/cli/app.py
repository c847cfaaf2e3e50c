"""The commands and their options. Optuna is imported only by those that need it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="autotune",
    help="Find the fastest way to run a TensorFlow model on a CPU, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StorageOption = Annotated[
    str | None,
    typer.Option("--storage", help="Optuna storage URL.  [default: .autotune/studies.db]"),
]


def _version(wanted: bool) -> None:
    if wanted:
        from autotuner import __version__

        typer.echo(f"autotune {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find the fastest way to run a TensorFlow model on a CPU, and prove it."""


@app.command()
def run(
    context: typer.Context,
    study_file: Annotated[
        Path | None, typer.Argument(metavar="[STUDY.TOML]", help="A file that describes the study.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The Python script to tune; its arguments follow after --.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(help="A reference workload: see `autotune workloads`.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(help="The interpreter that runs your script.  [default: this one]"),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="The study's name; one that exists is resumed.")
    ] = None,
    storage: StorageOption = None,
    knobs: Annotated[
        str | None,
        typer.Option(help="Knobs or groups to search, with commas: see `autotune knobs`."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials of the search in all.  [default: 30]")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Time to aim at for all of it, such as 10m; may join --trials."),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="tpe, random, grid or gp.  [default: tpe]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The sampler's seed.  [default: 0]")] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            help="What a step is: auto, step, keras, dataset, function or process. [default: auto]"
        ),
    ] = None,
    phase: Annotated[
        str | None,
        typer.Option(help="Which phase: fit, evaluate, predict.  [default: the first that lasts]"),
    ] = None,
    measure_time: Annotated[
        str | None, typer.Option(help="Time to measure in each trial.  [default: 3s]")
    ] = None,
    start_timeout: Annotated[
        str | None, typer.Option(help="Time until the first step ends.  [default: 300s]")
    ] = None,
    warmup_timeout: Annotated[
        str | None, typer.Option(help="Time until the speed is steady.  [default: 120s]")
    ] = None,
    measure_timeout: Annotated[
        str | None, typer.Option(help="Time until the measurement ends.  [default: 120s]")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait while another run tunes on this machine.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object per line, for machines.")
    ] = False,
) -> None:
    """Tune a script: try configurations, compare the best with the defaults, write the files."""
    from autotuner.cli.resolve import Flags
    from autotuner.cli.run_study import run_study
    from autotuner.errors import UserError
    from autotuner.report.progress import JsonProgress

    flags = Flags(
        study_file=study_file,
        model=model,
        workload=workload,
        arguments=context.obj or (),
        python=python,
        study=study,
        knobs=knobs,
        trials=trials,
        budget=budget,
        sampler=sampler,
        seed=seed,
        measure=measure,
        phase=phase,
        measure_time=measure_time,
        start_timeout=start_timeout,
        warmup_timeout=warmup_timeout,
        measure_timeout=measure_timeout,
    )
    try:
        run_study(flags, storage_url=storage, as_json=as_json, wait=wait)
    except UserError as error:
        if as_json:
            JsonProgress().error(error.message, error.hint)
        raise


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    kind: Annotated[str, typer.Option("--format", help="env, python or json.")] = "env",
    output: Annotated[
        Path | None, typer.Option(help="The file to write.  [default: standard output]")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Print the recommended configuration of a study as a file to deploy."""
    from autotuner.cli.browse import export_study

    export_study(study, kind=kind, output=output, storage_url=storage)


@app.command()
def show(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    storage: StorageOption = None,
) -> None:
    """Show a study: its result and every trial."""
    from autotuner.cli.browse import show_study

    show_study(study, storage_url=storage)


@app.command(name="list")
def list_studies(storage: StorageOption = None) -> None:
    """List all studies."""
    from autotuner.cli.browse import list_all

    list_all(storage_url=storage)


@app.command()
def workloads() -> None:
    """List the reference workloads."""
    from rich.console import Console

    from autotuner.report.lists import workloads_table
    from autotuner.spec.workloads import list_workloads

    rows = [(name, spec.description) for name, spec in list_workloads().items()]
    Console().print(workloads_table(rows))


@app.command()
def knobs() -> None:
    """List the knobs, with their domains on this machine."""
    from rich.console import Console

    from autotuner.knobs.catalogue import KNOBS
    from autotuner.machine import inspect_machine
    from autotuner.report.lists import knobs_table

    machine = inspect_machine()
    Console().print(f"machine: {machine.describe()}", highlight=False)
    Console().print(knobs_table(KNOBS.values(), machine))
