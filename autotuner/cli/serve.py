"""``autotune serve`` and ``autotune token``: the service and who may use it."""

import contextlib
import dataclasses
import functools
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autotuner.cli.browse import HOME
from autotuner.cli.terminal import out_console
from autotuner.errors import UserError, did_you_mean
from autotuner.study.artifacts import artifact_folder
from autotuner.study.storage import default_url, is_shared, open_storage, shown_url
from autotuner.study.workers import Workers

if TYPE_CHECKING:
    from autotuner.service.queue import Queue

_MOST_STUDIES = 1000
_PER_MINUTE = 600
_LONGEST_NAME = 80
_LAST_PORT = 65535


@dataclasses.dataclass(frozen=True, kw_only=True)
class Front:
    """Where the HTTP interface listens, and to whom.

    ``dashboard_port``: None for the next one. ``allowed``: further names by which it is reached.
    ``require_token``: on loopback, too.
    """

    host: str
    port: int
    dashboard_port: int | None
    allowed: Sequence[str]
    require_token: bool


def check_installed() -> None:
    """Raise UserError if the packages of the service are not installed."""
    for package in ("fastapi", "uvicorn", "python_multipart", "httpx"):
        if importlib.util.find_spec(package) is None:
            hint = "pip install 'tf-autotune[service]'"
            raise UserError(f"the service needs the package {package}", hint=hint)


def serve(
    front: Front | None,
    *,
    models: Path,
    storage_url: str | None,
    interpreters: Sequence[str],
    passed: Sequence[str],
    limits: Sequence[str],
) -> None:
    """Serve until Ctrl-C or SIGTERM, which are the regular end: the exit code is 0.

    Args:
        front: the HTTP interface; None to work off the queue only.
        models: the folder of the scripts that may be submitted.
        storage_url: where queue and studies are.
        interpreters: NAME=PATH of those that may be asked for.
        passed: names of variables that scripts are to see.
        limits: further options of ``autotune run``.

    Raises:
        UserError: for whatever the user can mend.
    """
    check_installed()
    # FastAPI takes half a second to import, for which other commands need not wait
    from autotuner.service.executor import Workshop, environment_of_runs
    from autotuner.service.queue import Queue
    from autotuner.service.server import Thread, log_refusals

    if not models.is_dir():
        hint = "--models takes the folder of the scripts that may be submitted"
        raise UserError(f"--models {models}: no such folder", hint=hint)
    known = _interpreters(interpreters)
    url = storage_url or default_url(HOME)
    storage = open_storage(url, create=True)
    jobs = Queue(storage)
    log_refusals()
    if front is None:
        run: Callable[[], None] = functools.partial(_wait, url)
    else:
        run = _open_http(front, jobs, storage_url=url, models=models, interpreters=known)
    workers = Workers(
        jobs.study, shared=is_shared(storage), machine=os.uname().nodename, remark=_say
    )
    workshop = Workshop(
        jobs,
        workers,
        models=models,
        home=Path.cwd(),
        interpreters=known,
        environment=environment_of_runs(os.environ, passed, url),
        limits=limits,
        say=_say,
    )
    with (
        # outermost: as soon as it says that Ctrl-C ends it, nothing else becomes of one
        contextlib.suppress(KeyboardInterrupt, SystemExit),
        workers,
        Thread("workshop", workshop.run, workshop.stop),
    ):
        run()


def _wait(storage_url: str) -> None:
    """Do what there is to do without an HTTP interface: wait for Ctrl-C or SIGTERM."""
    _say(f"{shown_url(storage_url)}: works off the queue; Ctrl-C ends it")
    threading.Event().wait()


def _open_http(
    front: Front,
    jobs: "Queue",
    *,
    storage_url: str,
    models: Path,
    interpreters: Mapping[str, str],
) -> Callable[[], None]:
    """Listen, and return a function that says where and serves until Ctrl-C or SIGTERM."""
    from autotuner.dashboard.guard import LOOPBACK, Sessions
    from autotuner.dashboard.server import open_server
    from autotuner.service.access import Doors, Rules, host_names
    from autotuner.service.api import Service, make_app
    from autotuner.service.server import Thread, bind, make_server
    from autotuner.service.tokens import Scope, check_token, list_tokens
    from autotuner.service.views import Views

    name = f"[{front.host}]" if ":" in front.host else front.host.lower()
    needs_token = front.require_token or name not in LOOPBACK
    if needs_token and all(token.revoked for token in list_tokens(jobs.study)):
        where = f"--storage {shown_url(storage_url)}"
        hint = f"make one first: autotune token create --name me --scope submit {where}"
        raise UserError(f"--host {front.host}: a token is needed, and there is none yet", hint=hint)

    def may_read(given: str) -> bool:
        token = check_token(jobs.study.user_attrs, given)
        return token is not None and Scope.READ in token.scopes

    names = host_names(front.allowed)
    listening = bind(front.host, front.port)
    port: int = listening.getsockname()[1]
    beside = front.dashboard_port
    if beside is None:
        beside = 0 if port == _LAST_PORT else port + 1
    storage = open_storage(storage_url, create=False)
    dashboard = open_server(
        storage,
        artifact_folder(HOME),
        host=front.host,
        port=beside,
        allowed=names,
        check=may_read if needs_token else None,
        read_only=True,
    )
    sessions = Sessions()
    service = Service(
        jobs=jobs,
        views=Views(storage, jobs),
        models=models,
        interpreters=interpreters,
        most_studies=_MOST_STUDIES,
        dashboard_port=dashboard.port,
        needs_token=needs_token,
        sessions=sessions,
    )
    app = Doors(
        make_app(service),
        rules=Rules(
            hosts=frozenset({*LOOPBACK, name, *names}),
            origins=names,
            needs_token=needs_token,
            per_minute=_PER_MINUTE,
        ),
        attributes=lambda: jobs.study.user_attrs,
        sessions=sessions,
    )

    def run() -> None:
        with Thread("dashboard", dashboard.run, dashboard.close_from_outside):
            sys.stdout.write(f"service:   http://{name}:{port}/\n")
            sys.stdout.write(f"dashboard: http://{name}:{service.dashboard_port}/\n")
            sys.stdout.write("Ctrl-C ends it\n")
            sys.stdout.flush()
            # it ends in order, and then raises the signal again
            make_server(app).run(sockets=[listening])

    return run


def _interpreters(asked: Sequence[str]) -> dict[str, str]:
    """Return interpreters by the names under which they are asked for: NAME=PATH, or a path."""
    found = {}
    for text in asked:
        name, sign, path = text.rpartition("=")
        where = shutil.which(path)
        if where is None:
            hint = "--interpreter takes NAME=PATH of a Python that has TensorFlow"
            raise UserError(f"--interpreter {text}: no such interpreter", hint=hint)
        found[name if sign else path] = str(Path(where).absolute())
    return found


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def create(name: str, scopes: Sequence[str], storage_url: str | None) -> None:
    """Make a token and print it."""
    from autotuner.service.queue import Queue
    from autotuner.service.tokens import Scope, create_token

    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise UserError(f"--name: a name of up to {_LONGEST_NAME} printable characters")
    known = [scope.value for scope in Scope]
    for scope in scopes:
        if scope not in known:
            raise UserError(f'--scope: unknown scope "{scope}"', hint=did_you_mean(scope, known))
    wanted = {Scope(scope) for scope in scopes} | {Scope.READ}
    jobs = Queue(open_storage(storage_url or default_url(HOME), create=True))
    sys.stdout.write(create_token(jobs.study, name, wanted) + "\n")
    _say("keep it: it is not shown again. Use it as AUTOTUNE_TOKEN")


def list_all(storage_url: str | None) -> None:
    """Print all tokens; not their secrets, which nobody has."""
    from rich.table import Table

    from autotuner.service.queue import Queue
    from autotuner.service.tokens import list_tokens

    jobs = Queue(open_storage(storage_url or default_url(HOME), create=False))
    table = Table("key", "name", "scopes", "created", "state", box=None)
    for token in list_tokens(jobs.study):
        scopes = ", ".join(sorted(scope.value for scope in token.scopes))
        state = "revoked" if token.revoked else "valid"
        table.add_row(token.key, token.name, scopes, token.created, state)
    out_console().print(table)


def revoke(key: str, storage_url: str | None) -> None:
    """Let a token not be valid any more."""
    from autotuner.service.queue import Queue
    from autotuner.service.tokens import list_tokens, revoke_token

    jobs = Queue(open_storage(storage_url or default_url(HOME), create=False))
    if not revoke_token(jobs.study, key):
        known = [token.key for token in list_tokens(jobs.study)]
        hint = did_you_mean(key, known) if known else "there are none"
        raise UserError(f'there is no token "{key}"', hint=hint)
    _say(f"token {key} is not valid any more")
