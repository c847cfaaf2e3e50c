"""The real optuna-dashboard, a WSGI application, behind the access middleware.

It has no authentication and no Host check itself, and serves artifacts as whatever they claim to
be: a script in one would run on the dashboard's origin.
"""

import hmac
import io
import logging
from collections.abc import Collection, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna_dashboard
from a2wsgi import WSGIMiddleware

from autotuner.errors import UserError
from autotuner.service.access import (
    LOOPBACK,
    AccessMiddleware,
    AccessRules,
    App,
    HTTPScope,
    Message,
    Receive,
    Send,
    bracketed,
    host_names,
)
from autotuner.service.login import Login, LoginPage
from autotuner.service.server import Server, bind
from autotuner.service.tokens import Scope, Token
from autotuner.study.artifacts import ArtifactStore
from autotuner.study.shown import without_secrets
from autotuner.study.storage import Storage

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LOGGER = logging.getLogger("autotune.service")
_THREADS = 8
_BODY_S = 30.0
# of an artifact that a user adds in the browser
_MOST_BODY_BYTES = 8 << 20
_LEAST_TOKEN = 8
_ACTIVE = (b"html", b"svg", b"xml")
_FORWARDED = ("HTTP_X_FORWARDED", "HTTP_FORWARDED")
LOGIN_PAGE = LoginPage(
    path="/autotune/login",  # all other paths are optuna-dashboard's
    cookie="autotune_dashboard",
    title="autotune dashboard",
    hint="Enter the token of autotune dashboard: --token, or AUTOTUNE_DASHBOARD_TOKEN.",
)


def single_token(token: str | None) -> Login | None:
    """Return the login with one token; None for access without a token.

    Raises:
        UserError: if the token is too short to be one.
    """
    if token is None:
        return None
    if len(token) < _LEAST_TOKEN:
        raise UserError(f"--token: too short: at least {_LEAST_TOKEN} characters")
    if not token.isascii() or not token.isprintable():
        raise UserError("--token: only printable ASCII characters", hint="openssl rand -hex 32")
    known = Token(key="of --token", name="dashboard", scopes=frozenset(Scope), created="")

    async def find(given: str) -> Token | None:
        return known if _same(given, token) else None

    return Login(page=LOGIN_PAGE, find_token=find, is_guessable=True)


def dashboard_app(
    storage: Storage,
    artifacts: Path,
    *,
    hosts: Collection[str],
    login: Login | None,
    read_only: bool,
) -> AccessMiddleware:
    """Return the dashboard of a storage behind the access middleware.

    Args:
        storage: the studies.
        artifacts: the folder of their files.
        hosts: names under which it is known, without ports.
        login: how its clients log in; None: it has no tokens.
        read_only: refuse every write.
    """
    names = frozenset(host.lower() for host in hosts)
    rules = AccessRules(
        hosts=names,
        origins=names - LOOPBACK,
        needs_token=login is not None,
        read_only=read_only,
        most_body_bytes=_MOST_BODY_BYTES,
        body_s=_BODY_S,
        reason_field="reason",  # as optuna-dashboard's pages show it
        unknown_host=HTTPStatus.FORBIDDEN,
    )
    store = ArtifactStore(artifacts) if artifacts.is_dir() else None
    shown = without_secrets(storage)
    wsgi: Any = _as_a_server_calls_it(optuna_dashboard.wsgi(shown, artifact_store=store))
    app: Any = WSGIMiddleware(wsgi, workers=_THREADS)
    return AccessMiddleware(_with_harmless_artifacts(app), rules=rules, login=login)


def open_dashboard(
    storage: Storage,
    artifacts: Path,
    *,
    host: str,
    port: int,
    allowed: Collection[str],
    login: Login | None,
    read_only: bool,
) -> Server:
    """Return a server that listens.

    Args:
        storage: the studies.
        artifacts: the folder of their files.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        allowed: further names under which it is reached.
        login: how its clients log in; None: it has no tokens.
        read_only: refuse every write.

    Raises:
        UserError: if it would be open to everyone, or the address is not available.
    """
    name = bracketed(host)
    if name not in LOOPBACK and login is None:
        hint = "give --token, or AUTOTUNE_DASHBOARD_TOKEN; or reach 127.0.0.1 through ssh -L"
        raise UserError(f"--host {host}: anyone who reaches it could change studies", hint=hint)
    app = dashboard_app(
        storage,
        artifacts,
        hosts={*LOOPBACK, name, *host_names(allowed)},
        login=login,
        read_only=read_only,
    )
    # the middleware answers first, with the reason
    return Server(app, bind(host, port), body_s=_BODY_S + 2)


def _same(given: str, wanted: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), wanted.encode())


class _ErrorLog(io.TextIOBase):
    """Writes to the log what a WSGI application writes as its errors."""

    def write(self, text: str) -> int:
        _LOGGER.error("%s", text.rstrip())
        return len(text)


def _as_a_server_calls_it(app: "WSGIApplication") -> "WSGIApplication":
    """Return a WSGI application with what a2wsgi leaves to the server.

    There is no trusted proxy, so the application does not see its headers. Errors go to the log.
    """

    def call(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        kept = {key: value for key, value in environ.items() if not key.startswith(_FORWARDED)}
        return app({**kept, "wsgi.errors": _ErrorLog()}, start_response)

    return call


def _with_harmless_artifacts(app: App) -> App:
    """Return an application whose artifacts are plain text if they could run as a page."""

    async def call(scope: HTTPScope, receive: Receive, send: Send) -> None:
        is_artifact = str(scope.get("path", "")).startswith("/artifacts/")
        await app(scope, receive, _harmless(send) if is_artifact else send)

    return call


def _harmless(send: Send) -> Send:
    async def harmless(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = []
            for name, value in message.get("headers", []):
                if name == b"content-type" and any(kind in value.lower() for kind in _ACTIVE):
                    kept.append((name, b"text/plain; charset=utf-8"))
                elif name != b"access-control-allow-origin":
                    kept.append((name, value))
            message = {**message, "headers": [*kept, (b"content-security-policy", b"sandbox")]}
        await send(message)

    return harmless
