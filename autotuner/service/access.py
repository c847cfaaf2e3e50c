"""Access to the service and to the dashboard: one ASGI middleware in front of each.

- Host: only names under which the application is known, so that no foreign page can reach it by
  pointing its own name at this address (DNS rebinding). A browser's Origin must be the very same,
  or an allowed name: another port of this machine may belong to another user.
- Rate: a number of requests a minute with one token; far fewer from an address without one. A token
  is looked up in memory before: clients behind one address must not block each other.
- Guesses: where a user has chosen the token, an address has to wait after a number of wrong ones.
- Token: ``Authorization: Bearer TOKEN``, or the login page, which sets a cookie. Reading needs the
  scope read, everything else submit. A read-only application gets no request that could write.
- Size: headers and bodies of limited length; a body has to arrive within a time.

Every refusal is logged with its reason.
"""

import asyncio
import dataclasses
import functools
import json
import logging
import math
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from autotuner.service.limits import MINUTE_S, Limiter
from autotuner.service.login import SESSION_S, Login, cookie_value, form_field, local_path
from autotuner.service.page import PAGE_POLICY, login_page
from autotuner.service.tokens import Scope, Token
from autotuner.study.storage import STORAGE_ERRORS

LOGGER = logging.getLogger("autotune.service")
MOST_BODY_BYTES = 64 * 1024
MOST_HEADER_BYTES = 16 * 1024
BODY_S = 10.0
"""How long a body may take to arrive."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
STORAGE_FAILS = "the storage does not answer"
_GUESSES_PER_MINUTE = 20
_MOST_LOGGED = 300
_READS = ("GET", "HEAD", "OPTIONS")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][:/@?#\s]+)(?::[0-9]*)?")

HTTPScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[HTTPScope, Receive, Send], Awaitable[None]]


class _RefusedError(Exception):
    """A request is refused."""

    def __init__(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = {name.replace("_", "-").lower(): value for name, value in headers.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccessRules:
    """Which requests an application gets.

    ``hosts``: names under which it is known, without ports. ``origins``: names of sites whose pages
    may send requests, besides its own. ``needs_token``: for reading, too. ``read_only``: no writes.
    ``per_minute``: requests with one token, or from one address where none is needed.
    ``refused_per_minute``: requests from one address that has no token where one is needed.
    ``most_body_bytes``: the longest body, ``body_s``: how long it may take to arrive; the
    application gets all of it. ``reason_field``: the field for the reason in the JSON of a refusal.
    ``unknown_host``: the status of the refusal of a foreign Host.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    needs_token: bool
    read_only: bool = False
    per_minute: int = 20_000
    refused_per_minute: int = 600
    most_body_bytes: int = MOST_BODY_BYTES
    body_s: float = BODY_S
    reason_field: str = "error"
    unknown_host: HTTPStatus = HTTPStatus.MISDIRECTED_REQUEST


class AccessMiddleware:
    """Passes requests on to an application, or answers them itself.

    Args:
        app: the application.
        rules: which requests it gets.
        login: how its clients log in; None: it has no tokens.
    """

    def __init__(self, app: App, *, rules: AccessRules, login: Login | None) -> None:
        self._app = app
        self._rules = rules
        self._login = login
        self._clients = Limiter(rules.per_minute)
        self._strangers = Limiter(rules.refused_per_minute)
        self._guesses = Limiter(_GUESSES_PER_MINUTE)

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_safe_headers(send)
        try:
            headers = _headers(scope)
            self._check_names(headers)
            login = self._login
            if login is not None and scope["path"] in (login.page.path, login.page.logout):
                self._count_stranger(scope)
                await self._answer_login(login, scope, headers, receive, send)
                return
            state = scope.setdefault("state", {})
            await self._identify(scope, headers, state)
            body = await _read_body(
                headers, receive, self._rules.most_body_bytes, self._rules.body_s
            )
            receive = _replay(body, receive)
        except _RefusedError as refused:
            log_refusal(scope, refused.status, refused.reason)
            body = json.dumps({self._rules.reason_field: refused.reason}).encode()
            await _answer(send, refused.status, "application/json", body, refused.headers)
            return
        await self._app(scope, receive, send)

    def _check_names(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if host_name(host) not in self._rules.hosts:
            reason = "this host name is not known here; see --allow-host"
            raise _RefusedError(self._rules.unknown_host, reason)
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "the request is another site's")

    def _is_ours(self, origin: str, host: str) -> bool:
        name = origin.partition("://")[2].lower()
        return bool(name) and (name == host.lower() or host_name(name) in self._rules.origins)

    def _count_stranger(self, scope: HTTPScope) -> None:
        _check_rate(self._strangers, _address(scope))

    async def _identify(
        self, scope: HTTPScope, headers: Mapping[str, str], state: MutableMapping[str, Any]
    ) -> None:
        """Check the token of a request, its rate and what it may do; tell the application."""
        login = self._login
        token = None if login is None else await self._token(login, scope, headers)
        if token is not None:
            _check_rate(self._clients, f"token {token.key}")
        elif self._rules.needs_token:
            self._count_stranger(scope)
        else:
            _check_rate(self._clients, _address(scope))
        self._check_scope(scope, headers, token)
        state["submitted_by"] = "anyone here" if token is None else token.name
        state["client"] = "" if token is None else token.key
        if login is not None and token is not None:
            state["is_valid"] = functools.partial(_is_valid, login, headers)
            if _of_session(login, headers) is not None:
                state["logout"] = login.page.logout

    async def _token(
        self, login: Login, scope: HTTPScope, headers: Mapping[str, str]
    ) -> Token | None:
        """Return the token of a request; None without one. Raises for one that is not valid."""
        given = _bearer(headers)
        if given is None:
            known = _of_session(login, headers)
            token = None if known is None else await _find(login, known)
            if token is not None or "authorization" not in headers:
                return token  # None: not logged in, or the token was revoked since
        token = await self._guessed(login, scope, given or "")
        if token is None:
            self._count_stranger(scope)
            reason = "the token is not valid"
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, reason, WWW_Authenticate="Bearer")
        return token

    async def _guessed(self, login: Login, scope: HTTPScope, given: str) -> Token | None:
        """Return the token that was sent; None if it is not valid, which counts as a guess."""
        if not login.is_guessable:
            return await _find(login, given)
        address = _address(scope)
        if not self._guesses.has_left(address):
            raise _too_many(self._guesses, "tokens a minute that are not valid")
        token = await _find(login, given)
        if token is None:
            self._guesses.allows(address)
        return token

    async def _answer_login(
        self,
        login: Login,
        scope: HTTPScope,
        headers: Mapping[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a request for the login page, or one of its forms."""
        if scope["path"] == login.page.logout:
            await _log_out(login, scope, headers, send)
            return
        body = await _read_body(headers, receive, MOST_BODY_BYTES, BODY_S)
        await self._log_in(login, scope, headers, body, send)

    async def _log_in(
        self, login: Login, scope: HTTPScope, headers: Mapping[str, str], body: bytes, send: Send
    ) -> None:
        """Answer a request for the login page, or the form that it sends."""
        page, status = login.page, HTTPStatus.OK
        target = local_path(form_field(scope["query_string"].decode("latin-1"), "next"))
        if scope["method"] == "POST":
            given = form_field(body.decode("utf-8", "replace"), "token").strip()
            if await self._guessed(login, scope, given) is not None:
                session = login.sessions.begin(given)
                cookie = f"{page.cookie}={session}; HttpOnly; SameSite=Strict; Path=/"
                cookie += f"; Max-Age={SESSION_S}"
                leads = {"location": target, "set-cookie": cookie}
                await _answer(send, HTTPStatus.SEE_OTHER, "text/plain", b"", leads)
                return
            status = HTTPStatus.UNAUTHORIZED
            log_refusal(scope, status, "the token is not valid")
        elif scope["method"] not in ("GET", "HEAD"):
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "GET or POST", Allow="GET, POST")
        wrong = status is HTTPStatus.UNAUTHORIZED
        text = login_page(
            title=page.title,
            hint=page.hint,
            action=page.url(target),
            logout=None if _of_session(login, headers) is None else page.logout,
            wrong=wrong,
        )
        policy = {"content-security-policy": PAGE_POLICY}
        await _answer(send, status, "text/html; charset=utf-8", text.encode(), policy)

    def _check_scope(
        self, scope: HTTPScope, headers: Mapping[str, str], token: Token | None
    ) -> None:
        reads = scope["method"] in _READS
        if token is None and self._rules.needs_token:
            if self._login is not None and reads and "text/html" in headers.get("accept", ""):
                query = scope["query_string"].decode("latin-1")
                where = self._login.page.url(scope["path"] + (f"?{query}" if query else ""))
                raise _RefusedError(HTTPStatus.SEE_OTHER, "not logged in", Location=where)
            reason = "a token is needed: Authorization: Bearer TOKEN"
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, reason, WWW_Authenticate="Bearer")
        if self._rules.read_only and not reads:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "this is read-only (--read-only)")
        wanted = Scope.READ if reads else Scope.SUBMIT
        if token is not None and wanted not in token.scopes:
            reason = f"token {token.key} does not have the scope {wanted.value}"
            raise _RefusedError(HTTPStatus.FORBIDDEN, reason)


def _check_rate(limiter: Limiter, client: str) -> None:
    if not limiter.allows(client):
        raise _too_many(limiter, "requests a minute")


def _too_many(limiter: Limiter, what: str) -> _RefusedError:
    wait = str(math.ceil(MINUTE_S / limiter.per_minute))
    reason = f"more than {limiter.per_minute} {what}"
    return _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, reason, Retry_After=wait)


def _bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token in a request's header; None without one."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else None


def _of_session(login: Login, headers: Mapping[str, str]) -> str | None:
    """Return the token with which a request's session has begun; None without a session."""
    return login.sessions.token(cookie_value(headers.get("cookie", ""), login.page.cookie))


async def _is_valid(login: Login, headers: Mapping[str, str]) -> bool:
    """Return whether the token of a request that was let in is still valid."""
    given = _bearer(headers) or _of_session(login, headers)
    return given is not None and await login.find_token(given) is not None


async def _find(login: Login, given: str) -> Token | None:
    try:
        return await login.find_token(given)
    except STORAGE_ERRORS as error:
        LOGGER.exception("the storage fails")
        raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, STORAGE_FAILS) from error


async def _log_out(login: Login, scope: HTTPScope, headers: Mapping[str, str], send: Send) -> None:
    """End a browser's session."""
    if scope["method"] != "POST":  # a link or a picture must not log out
        raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "POST", Allow="POST")
    login.sessions.end(cookie_value(headers.get("cookie", ""), login.page.cookie))
    gone = f"{login.page.cookie}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"
    answered = {"location": login.page.path, "set-cookie": gone}
    await _answer(send, HTTPStatus.SEE_OTHER, "text/plain", b"", answered)


def _headers(scope: HTTPScope) -> dict[str, str]:
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


def _check_length(headers: Mapping[str, str], most_bytes: int) -> None:
    """Refuse a body by its announced length."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most_bytes:
        raise _too_long(most_bytes)


def _too_long(most_bytes: int) -> _RefusedError:
    reason = f"a body of more than {most_bytes} bytes"
    return _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)


async def _read_body(
    headers: Mapping[str, str], receive: Receive, most_bytes: int, within_s: float
) -> bytes:
    """Return a request's body, which must arrive soon and not be too long."""
    _check_length(headers, most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > most_bytes:
                    raise _too_long(most_bytes)
                if message["type"] != "http.request":
                    raise _RefusedError(HTTPStatus.BAD_REQUEST, "the client has hung up")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        reason = f"the body did not arrive within {within_s:.0f} s"
        status = HTTPStatus.REQUEST_TIMEOUT
        raise _RefusedError(status, reason, Connection="close") from error


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a source of messages that yields a body which was read already, then what follows."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _with_safe_headers(send: Send) -> Send:
    """Return a sink that adds the headers which keep browsers from guessing and embedding."""

    async def safe(message: Message) -> None:
        if message["type"] == "http.response.start":
            usual = [
                (b"x-content-type-options", b"nosniff"),
                (b"x-frame-options", b"DENY"),
                # with no-referrer the Origin of our own login form would be null
                (b"referrer-policy", b"same-origin"),
            ]
            message["headers"] = [*message.get("headers", []), *usual]
        await send(message)

    return safe


async def _answer(
    send: Send, status: HTTPStatus, media_type: str, body: bytes, headers: Mapping[str, str]
) -> None:
    every = {
        "content-type": media_type,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **headers,
    }
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in every.items()]
    await send({"type": "http.response.start", "status": status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _address(scope: HTTPScope) -> str:
    address: str = (scope.get("client") or ("unknown", 0))[0]
    return address


def log_refusal(scope: HTTPScope, status: int, reason: str) -> None:
    """Log a refusal; what came from outside can't forge a line.

    Args:
        scope: of the request.
        status: of the answer.
        reason: why.
    """
    path, why = ascii(scope["path"][:_MOST_LOGGED]), ascii(reason[:_MOST_LOGGED])[1:-1]
    method, address = scope["method"][:20], _address(scope)
    LOGGER.warning("refused %s %s of %s: %d %s", method, path, address, status, why)


def host_name(host: str) -> str:
    """Return a Host header's name, without its port; empty if it is none."""
    found = _HOST.fullmatch(host.lower())
    return found[1] if found else ""


def bracketed(host: str) -> str:
    """Return an address as it stands in a URL and in Host headers."""
    return f"[{host}]" if ":" in host else host.lower()


def host_names(allowed: Collection[str]) -> frozenset[str]:
    """Return allowed names as they stand in Host headers, without ports."""
    return frozenset(host_name(one) for one in allowed) - {""}
