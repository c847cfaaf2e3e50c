"""Parameters that several commands share and that are no options of a study."""

from pathlib import Path
from typing import Annotated

import typer

from autotuner.cli.flags import default
from autotuner.options.option import Group

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Optuna storage URL." + default(".autotune/studies.db"),
        envvar="AUTOTUNE_STORAGE",
        show_envvar=False,
        rich_help_panel=Group.SEARCH,
    ),
]
StudyArgument = Annotated[str, typer.Argument(help="Name of the study.")]
FileArgument = Annotated[
    Path, typer.Argument(metavar="BEST.JSON", help="File exported by autotune.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="File to write." + default("standard output")),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait while another run tunes on this machine.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Write one JSON object per line, for machines.")
]
ExportAnywayOption = Annotated[
    bool,
    typer.Option(
        "--export-anyway",
        help="Export the best configuration even if it is not proven.",
        rich_help_panel=Group.VERDICT,
    ),
]

RunAsOption = Annotated[
    str | None,
    typer.Option(
        metavar="USER",
        help="Run scripts as another user; for root only.",
        rich_help_panel=Group.TRIALS,
    ),
]
TrialMemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Kill a trial that uses more memory, such as 8G.",
        rich_help_panel=Group.TRIALS,
    ),
]
TrialProcessesOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Kill a trial that has more processes.",
        rich_help_panel=Group.TRIALS,
    ),
]
