"""The service's process: HTTP by uvicorn, and threads for the dashboard and the workshop."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from autotuner.errors import UserError
from autotuner.service.access import BODY_S

_HEADERS_S = 10.0
_FETCHES_S = 10.0
_KERNEL_HOLDS_BYTES = 128 * 1024
_MOST_CONNECTIONS = 256
_KEEP_ALIVE_S = 5
_GRACE_S = 5
# a little longer for a body: whoever reads it answers first
_ARRIVES_S = {h11.IDLE: _HEADERS_S, h11.SEND_BODY: BODY_S + 2}


class _ImpatientProtocol(H11Protocol):
    """Ends a connection on which a request does not arrive whole in time, or nothing is fetched.

    uvicorn itself waits for ever: for a slow client's headers, for a body that was refused, and for
    somebody to take an answer.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._awaited: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._fetched: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        taken = transport.get_extra_info("socket")
        # asyncio does so only for sockets that it has made itself; each answer takes 40 ms without
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # small, as only what the kernel takes over tells that somebody fetches
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_HOLDS_BYTES)
        self._await(h11.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(None)
        self._forget_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await(self.conn.their_state)

    def _await(self, state: Any) -> None:
        """Give the other side time for what it is about to send."""
        if state is self._awaited:
            return
        self._awaited = state
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state in _ARRIVES_S:
            self._timer = self.loop.call_later(_ARRIVES_S[state], self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_less(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._forget_writing()
        super().resume_writing()

    def _expect_less(self, before: int) -> None:
        """Look again later whether the other side has fetched anything."""

        def look() -> None:
            left = self.transport.get_write_buffer_size()
            if left >= before:
                self.transport.abort()
            else:
                self._expect_less(left)

        self._fetched = self.loop.call_later(_FETCHES_S, look)

    def _forget_writing(self) -> None:
        if self._fetched is not None:
            self._fetched.cancel()
            self._fetched = None


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
        app,
        http=_ImpatientProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
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


def log_refusals() -> None:
    """Let refusals and errors be seen."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
