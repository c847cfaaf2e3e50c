"""The command line: the table of commands, in the panels of ``autotune --help``."""

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from autotuner.cli.commands import deploy, look, service, tune

COMMANDS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "Tune": {"run": tune.run, "worker": tune.worker, "doctor": tune.doctor},
    "Deploy": {
        "export": deploy.export,
        "exec": deploy.execute,
        "check": deploy.check,
        "verify": deploy.verify,
        "compare": deploy.compare,
    },
    "Look": {
        "list": look.list_studies,
        "show": look.show,
        "report": look.report,
        "compare-studies": look.compare_studies,
        "dashboard": look.dashboard,
        "clean": look.clean,
        "knobs": look.knobs,
        "workloads": look.workloads,
    },
    "Service": {
        "serve": service.serve,
        "submit": service.submit,
        "status": service.status,
        "cancel": service.cancel,
        "fetch": service.fetch,
    },
}
TOKEN_COMMANDS: Mapping[str, Callable[..., None]] = {
    "create": service.create_token,
    "list": service.list_tokens,
    "revoke": service.revoke_token,
}
_EPILOGS = {"exec": deploy.EXEC_EXAMPLE}


def _version(wanted: bool) -> None:
    if wanted:
        from autotuner import __version__

        typer.echo(f"autotune {__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find the fastest way to run a TensorFlow model on a CPU, and prove it."""


def _assemble() -> typer.Typer:
    app = typer.Typer(
        name="autotune",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_main)
    for panel, commands in COMMANDS.items():
        for name, command in commands.items():
            epilog = _EPILOGS.get(name)
            app.command(name=name, rich_help_panel=panel, epilog=epilog)(command)
    tokens = typer.Typer(help="Make, list and revoke tokens of the service.", no_args_is_help=True)
    for name, command in TOKEN_COMMANDS.items():
        tokens.command(name=name)(command)
    app.add_typer(tokens, name="token", rich_help_panel="Service")
    return app


app = _assemble()
