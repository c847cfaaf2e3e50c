"""``autotune serve`` and ``autotune token``: start the service, and manage its tokens."""

import contextlib
import gc
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from autotuner.cli.extras import check_installed
from autotuner.cli.terminal import out_console
from autotuner.errors import UserError, did_you_mean
from autotuner.plain import plain
from autotuner.service.executor import RunSettings, environment_of_runs
from autotuner.service.queue import Queue
from autotuner.service.server import Front, log_refusals
from autotuner.service.tokens import Scope, create_token, list_tokens, revoke_token
from autotuner.study.folders import HOME
from autotuner.study.queue_store import QueueStore
from autotuner.study.storage import default_url, open_storage, shown_url

__all__ = ["Front", "create", "list_all", "revoke", "serve"]

_LONGEST_NAME = 80


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
        front: the HTTP interface; None to work on the queue only.
        models: the folder of the scripts that may be submitted.
        storage_url: of queue and studies.
        interpreters: NAME=PATH of interpreters that a request may name.
        passed: names of variables that scripts see.
        limits: further options of ``autotune run``.

    Raises:
        UserError: for an error that the user can fix.
    """
    check_installed("fastapi")
    from autotuner.service.assembly import assemble

    if not models.is_dir():
        hint = "--models takes the folder of the scripts that may be submitted"
        raise UserError(f"--models {models}: no such folder", hint=hint)
    url = storage_url or default_url(HOME)
    log_refusals()
    settings = RunSettings(
        models=models,
        home=HOME,
        interpreters=_interpreters(interpreters),
        environment=environment_of_runs(os.environ, passed, url),
        limits=limits,
    )
    service = assemble(url, settings, front, _report)
    # what is loaded by now stays: the garbage collector need not look at it, which takes 0.1 s
    gc.freeze()
    # outermost: once the line about Ctrl-C is printed, Ctrl-C is a regular end
    with contextlib.suppress(KeyboardInterrupt, SystemExit), service.running():
        if front is None:
            _report(f"{shown_url(url)}: works on the queue; Ctrl-C ends it")
        else:
            for name, port in service.ports.items():
                sys.stdout.write(f"{name + ':':<10} http://{front.name}:{port}/\n")
            sys.stdout.write("Ctrl-C ends it\n")
            sys.stdout.flush()
        service.serve()


def _interpreters(given: Sequence[str]) -> dict[str, str]:
    """Return the paths of interpreters by their names, from NAME=PATH or a path alone."""
    found = {}
    for text in given:
        name, sign, path = text.rpartition("=")
        where = shutil.which(path)
        if where is None:
            hint = "--interpreter takes NAME=PATH of a Python that has TensorFlow"
            raise UserError(f"--interpreter {text}: no such interpreter", hint=hint)
        found[name if sign else path] = str(Path(where).absolute())
    return found


def _report(text: str) -> None:
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


def _open_store(storage_url: str | None, *, create: bool) -> QueueStore:
    return Queue(open_storage(storage_url or default_url(HOME), create=create)).store


def create(name: str, scopes: Sequence[str], storage_url: str | None) -> None:
    """Make a token and print it."""
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise UserError(f"--name: a name of up to {_LONGEST_NAME} printable characters")
    known = [scope.value for scope in Scope]
    for scope in scopes:
        if scope not in known:
            raise UserError(f'--scope: unknown scope "{scope}"', hint=did_you_mean(scope, known))
    wanted = {Scope(scope) for scope in scopes} | {Scope.READ}
    sys.stdout.write(create_token(_open_store(storage_url, create=True), name, wanted) + "\n")
    _report("keep it: it is not shown again. Use it as AUTOTUNE_TOKEN")


def list_all(storage_url: str | None) -> None:
    """Print all tokens, without their secrets, which are not stored."""
    from rich.table import Table

    from autotuner.report.lists import cell

    table = Table("key", "name", "scopes", "created", "state", box=None)
    for token in list_tokens(_open_store(storage_url, create=False)):
        scopes = ", ".join(sorted(scope.value for scope in token.scopes))
        state = "revoked" if token.revoked else "valid"
        table.add_row(token.key, cell(token.name), scopes, token.created, state)
    out_console().print(table)


def revoke(key: str, storage_url: str | None) -> None:
    """Revoke a token."""
    store = _open_store(storage_url, create=False)
    if not revoke_token(store, key):
        known = [token.key for token in list_tokens(store)]
        hint = did_you_mean(key, known) if known else "there are none"
        raise UserError(f'there is no token "{key}"', hint=hint)
    _report(f"token {key} is revoked")
