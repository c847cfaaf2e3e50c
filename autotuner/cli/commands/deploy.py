"""Commands that deploy a result and check it again: ``export``, ``exec``, ``check``, ``verify``,
``compare``.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from autotuner.cli.commands.parameters import (
    ExportAnywayOption,
    FileArgument,
    JsonOption,
    OutputOption,
    StorageOption,
    StudyArgument,
    WaitOption,
)
from autotuner.cli.flags import Flags, choices, default, study_options
from autotuner.options.option import Group
from autotuner.options.table import OPTIONS

EXEC_EXAMPLE = "autotune exec best.json -- python mymodel.py --epochs 3"
_FORMATS = (
    *("env", "python", "json", "dockerfile", "kubernetes", "systemd"),
    *("serving", "serving-batching"),
)
_PAIRS = (
    *(OPTIONS[key] for key in ("model", "batch_size", "shapes", "python", "environment")),
    dataclasses.replace(OPTIONS["effort"], help="{choices}: up to 8, 16 and 30 pairs."),
    OPTIONS["measure_time"],
    dataclasses.replace(OPTIONS["phase"], default="the phase of the file's study"),
    OPTIONS["pairing"],
    dataclasses.replace(OPTIONS["pairs"], help="Maximum number of pairs."),
    OPTIONS["margin"],
)


def export(
    study: StudyArgument,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}.",
            autocompletion=choices(_FORMATS),
        ),
    ] = "env",
    output: OutputOption = None,
    storage: StorageOption = None,
    export_anyway: ExportAnywayOption = False,
) -> None:
    """Print the recommended configuration of a study as a file to deploy."""
    from autotuner.cli.browse import export_study

    export_study(study, kind=kind, output=output, storage_url=storage, export_anyway=export_anyway)


def execute(
    context: typer.Context,
    best: FileArgument,
    force: Annotated[
        bool,
        typer.Option("--force", help="Accept another machine or another TensorFlow."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Write the settings to standard error.")
    ] = False,
) -> None:
    """Run a command, given after --, with a configuration applied, tf.data included."""
    from autotuner.cli.execute import execute

    execute(best, context.obj or (), force=force, verbose=verbose)


def check(
    best: FileArgument,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Interpreter to check." + default("this one")),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read back, in a fresh process, which settings of a file take effect here."""
    from autotuner.cli.check import check_file

    if not check_file(best, python=python, as_json=as_json):
        raise typer.Exit(1)


@study_options(*_PAIRS)
def verify(
    best: FileArgument,
    flags: Flags,
    fail_under: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO",
            help="Exit with 1 if the speed-up is below this, such as 1.05, for CI.",
            rich_help_panel=Group.VERDICT,
        ),
    ] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare an exported configuration with TensorFlow's defaults, here and today."""
    from autotuner.cli.versus import verify_file

    if not verify_file(best, flags, fail_under=fail_under, wait=wait, as_json=as_json):
        raise typer.Exit(1)


@study_options(*_PAIRS)
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.JSON", help="Configuration.")],
    second: Annotated[Path, typer.Argument(metavar="B.JSON", help="Configuration to compare to.")],
    flags: Flags,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two configurations: how much faster is A than B?"""
    from autotuner.cli.versus import compare_files

    compare_files(first, second, flags, wait=wait, as_json=as_json)
