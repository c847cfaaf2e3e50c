"""The service's process: HTTP by uvicorn, the dashboard by waitress, and the workshop in a thread."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from autotuner.errors import UserError

_HEADERS_S = 10.0
_MOST_CONNECTIONS = 256
_KEEP_ALIVE_S = 5


class _ImpatientProtocol(H11Protocol):
    """Closes a connection on which no whole request has arrived in time.

    uvicorn itself waits for the headers of a slow client for ever.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(_HEADERS_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UserError: if the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        hint = "another --port may be free; 0 takes any that is"
        raise UserError(f"--host {host} --port {port}: {error.strerror}", hint=hint) from error


def make_server(app: Callable[..., object]) -> uvicorn.Server:
    """Return a server; ``run`` serves until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=_ImpatientProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


class Thread:
    """Something that runs beside the server until it is stopped."""

    def __init__(self, name: str, run: Callable[[], None], stop: Callable[[], None]) -> None:
        self._stop = stop
        self._thread = threading.Thread(target=run, name=name, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._thread.join()


def log_to_stderr() -> None:
    """Let refusals and errors be seen."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
