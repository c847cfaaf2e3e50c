"""What stands in front of the service, as ASGI middleware; every refusal is logged with its reason.

- Host check: only names that we are known by, so that no foreign page can reach us by pointing its
  own name at this address (DNS rebinding). A browser's Origin must be the very same, or a name that
  was allowed: another port of this machine may be another user's.
- So many requests a minute from one address; bodies of so many bytes, that arrive within a time.
- Token: ``Authorization: Bearer TOKEN``, or a login page that sets a cookie. Reading needs the
  scope read, everything else submit.
"""

import asyncio
import dataclasses
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from autotuner.dashboard.guard import Sessions, cookie_value, host_name
from autotuner.service.tokens import Scope, Token, check_token

LOGGER = logging.getLogger("autotune.service")
MOST_BODY_BYTES = 64 * 1024
MOST_HEADER_BYTES = 16 * 1024
BODY_S = 10.0
"""How long a body may take to arrive."""

_MINUTE_S = 60.0
_MOST_LOGGED = 300
_MOST_ADDRESSES = 4096
STORAGE_FAILS = "the storage does not answer"
_READS = ("GET", "HEAD", "OPTIONS")
COOKIE = "autotune_service"
LOGIN = "/login"

Scope_ = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope_, Receive, Send], Awaitable[None]]


class _RefusedError(Exception):
    """A request is not let through."""

    def __init__(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Limiter:
    """So many requests a minute from each address, a full minute's at once at most."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Tell whether one more request may come from an address, and count it."""
        now = self._monotonic()
        left, at = self._buckets.pop(address, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - at) * self._per_minute / _MINUTE_S)
        allowed = left >= 1
        self._buckets[address] = (left - allowed, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What is let through.

    ``hosts``: names by which we are asked for, without ports. ``origins``: names of sites whose
    pages may ask, besides our own. ``needs_token``: also for reading.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    needs_token: bool
    per_minute: int


class Doors:
    """Lets requests through to an application, or answers them itself.

    Args:
        app: the application.
        rules: what is let through.
        attributes: returns the user attributes of the queue's study, where the tokens are.
        sessions: who has logged in by a browser.
    """

    def __init__(
        self,
        app: App,
        *,
        rules: Rules,
        attributes: Callable[[], Mapping[str, Any]],
        sessions: Sessions,
    ) -> None:
        self._app = app
        self._rules = rules
        self._attributes = attributes
        self._sessions = sessions
        self._limiter = Limiter(rules.per_minute)
        self._wait = str(math.ceil(_MINUTE_S / rules.per_minute))

    async def __call__(self, scope: Scope_, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = _headers(scope)
            address = (scope.get("client") or ("unknown", 0))[0]
            self._check_names(headers)
            if not self._limiter.allows(address):
                reason = f"more than {self._rules.per_minute} requests a minute"
                raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, reason, Retry_After=self._wait)
            if scope["path"] != LOGIN:
                token = await asyncio.to_thread(self._who, headers)
                self._check_scope(scope, headers, token)
                scope.setdefault("state", {})["by"] = "anyone here" if token is None else token.name
            body = await _read_body(headers, receive)
        except _RefusedError as refused:
            log_refusal(scope, refused.status, refused.reason)
            await _answer(send, refused)
            return
        await self._app(scope, _replay(body, receive), _guarded(send))

    def _check_names(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if host_name(host) not in self._rules.hosts:
            reason = "this host name is not known here; see --allow-host"
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, reason)
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "the request is another site's")

    def _is_ours(self, origin: str, host: str) -> bool:
        name = origin.partition("://")[2].lower()
        return bool(name) and (name == host.lower() or host_name(name) in self._rules.origins)

    def _who(self, headers: Mapping[str, str]) -> Token | None:
        """Return the token of a request; None without one. Raises for one that is not valid."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if not kind:
            given = self._sessions.token(cookie_value(headers.get("cookie", ""), COOKIE)) or ""
            if not given:
                return None
        elif kind.lower() != "bearer":
            given = ""
        try:
            token = check_token(self._attributes(), given.strip())
        except (OptunaError, SQLAlchemyError) as error:
            LOGGER.exception("the storage fails")
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, STORAGE_FAILS) from error
        if token is None:
            reason = "the token is not valid"
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, reason, WWW_Authenticate="Bearer")
        return token

    def _check_scope(self, scope: Scope_, headers: Mapping[str, str], token: Token | None) -> None:
        reads = scope["method"] in _READS
        if token is None:
            if not self._rules.needs_token:
                return
            if reads and "text/html" in headers.get("accept", ""):
                raise _RefusedError(HTTPStatus.SEE_OTHER, "not logged in", Location=LOGIN)
            reason = "a token is needed: Authorization: Bearer TOKEN"
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, reason, WWW_Authenticate="Bearer")
        wanted = Scope.READ if reads else Scope.SUBMIT
        if wanted not in token.scopes:
            reason = f"token {token.key} has not the scope {wanted.value}"
            raise _RefusedError(HTTPStatus.FORBIDDEN, reason)


def _headers(scope: Scope_) -> dict[str, str]:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MOST_HEADER_BYTES:
        reason = f"more than {MOST_HEADER_BYTES} bytes of headers"
        raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in ("host", "content-length", "authorization") and name in found:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"the header {name} is there twice")
        found[name] = value.decode("latin-1")
    return found


async def _read_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """Return a request's body, which must be there soon and not be too long."""
    too_long = f"a body of more than {MOST_BODY_BYTES} bytes"
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BODY_BYTES:
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_long)
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                body += bytes(message.get("body", b""))
                if len(body) > MOST_BODY_BYTES:
                    raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_long)
                if message["type"] != "http.request":
                    raise _RefusedError(HTTPStatus.BAD_REQUEST, "the client has hung up")
                if not message.get("more_body", False):
                    return body
    except TimeoutError as error:
        reason = f"the body did not arrive within {BODY_S:.0f} s"
        status = HTTPStatus.REQUEST_TIMEOUT
        raise _RefusedError(status, reason, Connection="close") from error


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a source of messages that gives the body, and then what else arrives."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _guarded(send: Send) -> Send:
    """Return a sink that adds the headers which keep browsers from guessing and embedding."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            usual = [
                (b"x-content-type-options", b"nosniff"),
                (b"x-frame-options", b"DENY"),
                # with no-referrer the Origin of our own login form would be null
                (b"referrer-policy", b"same-origin"),
            ]
            message["headers"] = [*message.get("headers", []), *usual]
        await send(message)

    return guarded


async def _answer(send: Send, refused: _RefusedError) -> None:
    body = json.dumps({"error": refused.reason}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **{name.lower(): value for name, value in refused.headers.items()},
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def log_refusal(scope: Scope_, status: int, reason: str) -> None:
    """Log a refusal; what came from outside can't forge a line.

    Args:
        scope: of the request.
        status: of the answer.
        reason: why.
    """
    address = (scope.get("client") or ("unknown", 0))[0]
    asked, why = ascii(scope["path"][:_MOST_LOGGED]), ascii(reason[:_MOST_LOGGED])[1:-1]
    LOGGER.warning("refused %s %s of %s: %d %s", scope["method"][:20], asked, address, status, why)


def host_names(allowed: Collection[str]) -> frozenset[str]:
    """Return names that were allowed as they stand in Host headers, without ports."""
    return frozenset(host_name(one) for one in allowed)
