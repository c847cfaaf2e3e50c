"""HTTP by uvicorn: the server of the service and of the dashboard."""

import asyncio
import dataclasses
import functools
import logging
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from autotuner.errors import UserError
from autotuner.service.access import App, bracketed
from autotuner.service.limits import Throttle

_HEADERS_S = 10.0
_FETCHES_S = 10.0
_KERNEL_HOLDS_BYTES = 128 * 1024
_MOST_CONNECTIONS = 320  # those that await a request, all event streams, and answers beside them
_MOST_AWAITED = 128
_BACKLOG = 1024
_LOGGED_PER_MINUTE = 300
_KEEP_ALIVE_S = 5
_GRACE_S = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Front:
    """Where the HTTP interface listens, and which clients it lets in.

    ``dashboard_port``: None for the next one. ``allowed``: further names under which it is reached.
    ``require_token``: on loopback, too.
    """

    host: str
    port: int
    dashboard_port: int | None
    allowed: Sequence[str]
    require_token: bool

    @property
    def name(self) -> str:
        """The host as it stands in a URL."""
        return bracketed(self.host)


class _Awaited:
    """The connections on which a request is awaited or incomplete, the oldest first.

    With too many of them the oldest is closed, so clients that send nothing don't block others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._transports: OrderedDict[asyncio.Transport, None] = OrderedDict()

    def add(self, transport: asyncio.Transport) -> None:
        """Add a connection as the youngest, and make room for it."""
        self._transports.setdefault(transport)
        if len(self._transports) > self._most:
            oldest, _ = self._transports.popitem(last=False)
            oldest.close()

    def discard(self, transport: asyncio.Transport) -> None:
        """Remove a connection, if it is there."""
        self._transports.pop(transport, None)


class _ImpatientProtocol(H11Protocol):
    """Closes a connection on which a request does not arrive in time or an answer is not fetched.

    A reverse proxy would do this, but the service is often reached without one, and uvicorn itself
    waits for ever: ``test_slow_clients`` and ``test_a_client_that_fetches_nothing`` show it.

    Args:
        body_s: how long a body may take to arrive.
        awaited: the server's connections without a whole request.
    """

    def __init__(self, *args: Any, body_s: float, awaited: _Awaited, **more: Any) -> None:
        super().__init__(*args, **more)
        self._others = awaited
        self._arrives_s = {h11.IDLE: _HEADERS_S, h11.SEND_BODY: body_s}
        self._awaited: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._fetched: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        taken = transport.get_extra_info("socket")
        # asyncio does so only for sockets that it has made itself; each answer takes 40 ms without
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # small, as only what the kernel takes over shows that the client fetches
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_HOLDS_BYTES)
        self._await(h11.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(None)
        self._others.discard(self.transport)
        self._forget_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await(self.conn.their_state)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._await(self.conn.their_state)

    def _await(self, state: Any) -> None:
        """Start the timer of what the client has to send next."""
        if state is self._awaited:
            return
        self._awaited = state
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state not in self._arrives_s:
            self._others.discard(self.transport)
        else:
            self._others.add(self.transport)
            self._timer = self.loop.call_later(self._arrives_s[state], self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_less(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._forget_writing()
        super().resume_writing()

    def _expect_less(self, before: int) -> None:
        """Check later whether the client has fetched anything."""

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


class _Uvicorn(uvicorn.Server):
    """Accepts one connection at a time, while the kernel holds many.

    When descriptors run out, asyncio goes on to try as many connections as its backlog says, and
    tries again later for each that has failed: soon it does nothing else. So its own backlog is 1,
    and the socket's is set afterwards.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(_BACKLOG)


class Server:
    """An application on a socket that listens. ``port``: the one in use.

    Args:
        app: the application.
        listening: the socket.
        body_s: how long a body may take to arrive.
    """

    def __init__(self, app: App, listening: socket.socket, *, body_s: float) -> None:
        config = uvicorn.Config(
            app,
            http=functools.partial(  # type: ignore[arg-type]
                _ImpatientProtocol, body_s=body_s, awaited=_Awaited(_MOST_AWAITED)
            ),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            backlog=1,  # see _Uvicorn
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _Uvicorn(config)
        self._listening = listening
        self.port: int = listening.getsockname()[1]

    def run(self) -> None:
        """Serve until :meth:`stop`, Ctrl-C or SIGTERM; a signal is raised again at the end."""
        self._server.run(sockets=[self._listening])

    def stop(self) -> None:
        """End :meth:`run`, which another thread is in."""
        self._server.should_exit = True

    def close(self) -> None:
        """Close the socket of a server that does not run."""
        self._listening.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UserError: if the address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        hint = "another --port may be free; 0 takes any that is"
        raise UserError(f"--host {host} --port {port}: {error.strerror}", hint=hint) from error


class Thread:
    """A thread that runs while the context lasts.

    Args:
        name: of the thread.
        run: what it does.
        stop: makes ``run`` return.
    """

    def __init__(self, name: str, run: Callable[[], None], stop: Callable[[], None]) -> None:
        self._stop = stop
        self._thread = threading.Thread(target=run, name=name, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._thread.join()


def log_refusals() -> None:
    """Write refusals and errors to standard error, of a flood a part."""
    handler = logging.StreamHandler()
    handler.addFilter(Throttle(_LOGGED_PER_MINUTE))
    form = "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, handlers=[handler])
