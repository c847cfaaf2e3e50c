"""Commands of the service: ``serve`` and ``token`` on its machine, the others anywhere."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from autotuner.cli.commands.parameters import (
    JsonOption,
    OutputOption,
    RunAsOption,
    StorageOption,
    StudyArgument,
    TrialMemoryOption,
    TrialProcessesOption,
)
from autotuner.cli.flags import Flags, choices, default, study_options
from autotuner.options import kinds
from autotuner.options.option import Place
from autotuner.options.table import OPTIONS

UrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Address of the service." + default("AUTOTUNE_URL, or this machine's"),
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(metavar="TOKEN", help="Token of the service." + default("AUTOTUNE_TOKEN")),
]
_FILES = ("env", "python", "json", "report")
_SCOPES = ("read", "submit")
_REQUEST = (
    *(option for option in OPTIONS.values() if {Place.FLAG, Place.BODY} <= option.places),
    dataclasses.replace(
        OPTIONS["python"],
        kind=kinds.NAME,
        help="Name of one of the service's interpreters.",
        default=None,
    ),
)


def serve(
    models: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder of the scripts that may be submitted.")
    ],
    storage: StorageOption = None,
    host: Annotated[
        str,
        typer.Option(metavar="HOST", help="Address to listen on; any but loopback needs a token."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 takes a free one.")
    ] = 8765,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="Port of the dashboard." + default("the next one"),
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Further name of this server; may be repeated."),
    ] = None,
    interpreter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Python interpreter that a request may name; may be repeated.",
        ),
    ] = None,
    pass_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Variable of this environment that scripts see; may be repeated.",
        ),
    ] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Require a token on loopback, too.")
    ] = False,
    worker_only: Annotated[
        bool, typer.Option("--worker-only", help="Work on the queue without an HTTP interface.")
    ] = False,
    run_as: RunAsOption = None,
    trial_memory: TrialMemoryOption = None,
    trial_processes: TrialProcessesOption = None,
) -> None:
    """Serve an HTTP interface and a page: submit studies, follow them, fetch the files."""
    from autotuner.cli.resolve import confinement
    from autotuner.cli.serve import Front, serve
    from autotuner.trial.confinement import check_confinement

    # now, and not only when the first study runs
    check_confinement(confinement(run_as, trial_memory, trial_processes))
    limits = {
        "--run-as": run_as,
        "--trial-memory": trial_memory,
        "--trial-processes": trial_processes,
    }
    front = Front(
        host=host,
        port=port,
        dashboard_port=dashboard_port,
        allowed=allow_host or (),
        require_token=require_token,
    )
    serve(
        None if worker_only else front,
        models=models,
        storage_url=storage,
        interpreters=interpreter or (),
        passed=pass_env or (),
        limits=[f"{name}={value}" for name, value in limits.items() if value is not None],
    )


def create_token(
    name: Annotated[str, typer.Option(metavar="NAME", help="Owner of the token, for lists.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="read, or submit, which includes read; may be repeated." + default("read"),
            autocompletion=choices(_SCOPES),
        ),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Make a token and print it; it can't be printed again."""
    from autotuner.cli.serve import create

    create(name, scope or ["read"], storage)


def list_tokens(storage: StorageOption = None) -> None:
    """List the tokens without their secrets, which are not stored."""
    from autotuner.cli.serve import list_all

    list_all(storage)


def revoke_token(
    key: Annotated[str, typer.Argument(help="Key of the token, from the list.")],
    storage: StorageOption = None,
) -> None:
    """Revoke a token."""
    from autotuner.cli.serve import revoke

    revoke(key, storage)


@study_options(*_REQUEST)
def submit(
    script: Annotated[str, typer.Argument(help="Path relative to the service's models.")],
    flags: Flags,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Add a study to a service's queue; the script's arguments come after --."""
    from autotuner.cli.remote import Remote, request_body, submit

    body = request_body(script, flags)
    with Remote(url, token) as remote:
        succeeded = submit(remote, body, follow=follow)
    if not succeeded:
        raise typer.Exit(1)


def status(
    study: Annotated[
        str | None, typer.Argument(help="Name of a study." + default("all of them"))
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Report progress until all of them have ended.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Show the progress of a service's studies."""
    from autotuner.cli.remote import Remote, status

    with Remote(url, token) as remote:
        succeeded = status(remote, study, follow=follow, as_json=as_json)
    if not succeeded:
        raise typer.Exit(1)


def cancel(study: StudyArgument, url: UrlOption = None, token: TokenOption = None) -> None:
    """Cancel a study that is queued or running in a service."""
    from autotuner.cli.remote import Remote, cancel

    with Remote(url, token) as remote:
        cancel(remote, study)


def fetch(
    study: StudyArgument,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"{', '.join(_FILES[:-1])} or {_FILES[-1]}.",
            autocompletion=choices(_FILES),
        ),
    ] = "env",
    output: OutputOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Fetch the recommendation of a study from a service, as a file to deploy."""
    from autotuner.cli.remote import Remote, fetch

    with Remote(url, token) as remote:
        fetch(remote, study, kind=kind, output=output)
