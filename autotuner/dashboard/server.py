"""The server: optuna-dashboard's WSGI application behind the guard, on several threads."""

import logging
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage
from waitress.server import create_server

from autotuner.dashboard.guard import LOOPBACK, Guard, same
from autotuner.errors import UserError

_THREADS = 8
_LEAST_TOKEN = 8
Check = Callable[[str], bool]


class Server:
    """One of waitress' servers, with one socket. ``port``: the one in use."""

    def __init__(self, made: Any, port: int) -> None:  # waitress' types are not what it has
        self._made = made
        self.port = port

    def run(self) -> None:
        """Serve until Ctrl-C, or until it is closed."""
        self._made.run()

    def close(self) -> None:
        """Give up what is being answered, and close all sockets."""
        for channel in list(self._made.active_channels.values()):
            channel.handle_close()
        self._made.task_dispatcher.shutdown()  # its threads use a socket of the server's, too
        self._made.close()

    def close_from_outside(self) -> None:
        """Have the thread that runs it close its sockets: it waits for them, by their numbers."""
        self._made.trigger.pull_trigger(self.close)


def check_for(token: str | None) -> Check | None:
    """Return a check for one token; None for no login.

    Raises:
        UserError: if it is too short to be one.
    """
    if token is None:
        return None
    if len(token) < _LEAST_TOKEN:
        raise UserError(f"--token: too short: at least {_LEAST_TOKEN} characters")
    return lambda given: same(given, token)


def guarded_app(
    storage: BaseStorage,
    artifacts: Path,
    *,
    hosts: Collection[str],
    check: Check | None,
    read_only: bool,
) -> Guard:
    """Return the dashboard of a storage, guarded.

    Args:
        storage: the studies.
        artifacts: the folder of their files.
        hosts: names by which it may be asked for, without ports.
        check: tells whether a token is valid, None for no login.
        read_only: let no write through.
    """
    store = FileSystemArtifactStore(artifacts) if artifacts.is_dir() else None
    app = optuna_dashboard.wsgi(storage, artifact_store=store)
    return Guard(app, hosts=hosts, check=check, read_only=read_only)


def open_server(
    storage: BaseStorage,
    artifacts: Path,
    *,
    host: str,
    port: int,
    allowed: Collection[str],
    check: Check | None,
    read_only: bool,
) -> Server:
    """Return a server that is bound and listens.

    Args:
        storage: the studies.
        artifacts: the folder of their files.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        allowed: further names by which it may be asked for.
        check: tells whether a token is valid, None for no login.
        read_only: let no write through.

    Raises:
        UserError: if it would be open to everyone, or the address can't be had.
    """
    name = f"[{host}]" if ":" in host else host.lower()
    if name not in LOOPBACK and check is None:
        hint = "give --token, or AUTOTUNE_DASHBOARD_TOKEN; or reach 127.0.0.1 through ssh -L"
        raise UserError(f"--host {host}: anyone who reaches it could change studies", hint=hint)
    app = guarded_app(
        storage, artifacts, hosts={*LOOPBACK, name, *allowed}, check=check, read_only=read_only
    )
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a busy page is no problem
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        hint = "another --port may be free; 0 takes any that is"
        raise UserError(f"--host {host} --port {port}: {error.strerror}", hint=hint) from error
    made = create_server(
        app, sockets=[listening], threads=_THREADS, clear_untrusted_proxy_headers=True
    )
    return Server(made, listening.getsockname()[1])
