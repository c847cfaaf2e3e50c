"""What stands between a browser and optuna-dashboard, as WSGI middleware.

- Host check: only names that we are known by, so that no foreign page can reach us by pointing its
  own name at this address (DNS rebinding). A write's Origin must be one of them as well.
- Token, if there is one: ``Authorization: Bearer TOKEN``, or a login page that sets a cookie.
- Read-only: no request that could write gets through.
- Artifacts are never shown as HTML or SVG: a script in them would run on the dashboard's origin.
"""

import hmac
import html
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][:/@?#\s]+)(?::[0-9]*)?")
_READS = ("GET", "HEAD", "OPTIONS")
_LOGIN = "/autotune/login"
_COOKIE = "autotune_session"
_MOST_FORM_BYTES = 4096
_MOST_SESSIONS = 1024
_ACTIVE = ("html", "svg", "xml")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>autotune dashboard</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:24rem;margin:4rem auto;padding:0 1rem}}
input,button{{font:inherit;width:100%;padding:.4rem;margin:.4rem 0;box-sizing:border-box}}</style>
</head><body><h1>autotune dashboard</h1><p>{said}</p>
<form method="post" action="{action}"><label>Token
<input type="password" name="token" autocomplete="current-password" required autofocus></label>
<button>Log in</button></form></body></html>
"""


class Sessions:
    """Who has logged in by a browser; a restart ends all sessions."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, str] = OrderedDict()

    def begin(self, token: str) -> str:
        """Return a new session of whoever has that token."""
        session = secrets.token_urlsafe(32)
        self._tokens[session] = token
        if len(self._tokens) > _MOST_SESSIONS:
            self._tokens.popitem(last=False)
        return session

    def token(self, session: str) -> str | None:
        """Return the token of a session; it is to be checked anew, as it may be revoked."""
        return self._tokens.get(session)


class Guard:
    """Lets requests through to an application, or answers them itself.

    Args:
        app: the application.
        hosts: names by which it may be asked for, without ports.
        check: tells whether a token that somebody gives is valid; None for no login.
        read_only: let no write through.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        *,
        hosts: Collection[str],
        check: Callable[[str], bool] | None = None,
        read_only: bool = False,
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._check = check
        self._read_only = read_only
        self._sessions = Sessions()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request."""
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if host_name(environ.get("HTTP_HOST", "")) not in self._hosts:
            said = "this host name is not known here; see --allow-host"
            return _refuse(start_response, HTTPStatus.FORBIDDEN, said)
        origin = environ.get("HTTP_ORIGIN")
        if (
            method not in _READS
            and origin
            and host_name(urlsplit(origin).netloc) not in self._hosts
        ):
            return _refuse(start_response, HTTPStatus.FORBIDDEN, "the request is another site's")
        if self._check is not None:
            if path == _LOGIN:
                return self._log_in(environ, start_response)
            if not self._is_known(environ):
                return self._ask_to_log_in(environ, start_response)
        if self._read_only and method not in _READS:
            said = "this dashboard is read-only (--read-only)"
            return _refuse(start_response, HTTPStatus.FORBIDDEN, said)
        if path.startswith("/artifacts/"):
            return self._app(environ, _harmless(start_response))
        return self._app(environ, start_response)

    def _is_known(self, environ: "WSGIEnvironment") -> bool:
        kind, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if kind.lower() == "bearer":
            return self._check is not None and self._check(value.strip())
        token = self._sessions.token(cookie_value(environ.get("HTTP_COOKIE", ""), _COOKIE))
        return token is not None and self._check is not None and self._check(token)

    def _ask_to_log_in(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
            target = environ.get("PATH_INFO", "/")
            if environ.get("QUERY_STRING"):
                target += "?" + environ["QUERY_STRING"]
            location = f"{_LOGIN}?next={quote(target, safe='')}"
            return _answer(start_response, HTTPStatus.SEE_OTHER, "", [("Location", location)])
        headers = [("WWW-Authenticate", "Bearer")]
        said = "a token is needed: Authorization: Bearer TOKEN"
        return _refuse(start_response, HTTPStatus.UNAUTHORIZED, said, headers)

    def _log_in(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        target = _local(_first(environ.get("QUERY_STRING", ""), "next"))
        said, status = "Give its token, or one of the service's.", HTTPStatus.OK
        if environ["REQUEST_METHOD"] == "POST":
            token = _first(_form(environ), "token")
            if self._check is not None and self._check(token):
                cookie = (
                    f"{_COOKIE}={self._sessions.begin(token)}; HttpOnly; SameSite=Strict; Path=/"
                )
                headers = [("Location", target), ("Set-Cookie", cookie)]
                return _answer(start_response, HTTPStatus.SEE_OTHER, "", headers)
            said, status = "That is not the token. Try again.", HTTPStatus.UNAUTHORIZED
        action = html.escape(f"{_LOGIN}?next={quote(target, safe='')}")
        csp = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
        headers = [("Content-Security-Policy", csp), ("X-Frame-Options", "DENY")]
        return _answer(start_response, status, _PAGE.format(said=said, action=action), headers)


def host_name(host: str) -> str:
    """Return a Host header's name, without its port; nothing if it is none."""
    found = _HOST.fullmatch(host.lower())
    return found[1] if found else ""


def same(given: str, wanted: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def cookie_value(header: str, wanted: str) -> str:
    """Return the value of a cookie in a Cookie header, empty if it is not there."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value
    return ""


def _form(environ: "WSGIEnvironment") -> str:
    """Return a form's body, URL-encoded; nothing if it is no form or too long for a token."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return ""
    if length > _MOST_FORM_BYTES:
        return ""
    body: bytes = environ["wsgi.input"].read(length)
    return body.decode("utf-8", "replace")


def _first(query: str, name: str) -> str:
    return parse_qs(query).get(name, [""])[0]


def _local(target: str) -> str:
    """Return where to go after the login: a path of ours, whatever was asked for."""
    parts = urlsplit(target)
    safe = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if safe and not parts.netloc and target.isprintable() else "/"


def _answer(
    start_response: "StartResponse", status: HTTPStatus, page: str, headers: Headers
) -> Iterable[bytes]:
    body = page.encode()
    usual = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(f"{status.value} {status.phrase}", [*usual, *headers])
    return [body]


def _refuse(
    start_response: "StartResponse", status: HTTPStatus, reason: str, headers: Headers | None = None
) -> Iterable[bytes]:
    """Answer as optuna-dashboard's own interface does, whose pages show the reason."""
    body = json.dumps({"reason": reason}).encode()
    usual = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", [*usual, *(headers or [])])
    return [body]


def _harmless(start_response: "StartResponse") -> Callable[..., Any]:
    """Return a start_response that serves what could run as plain text, for us alone."""

    def start(status: str, headers: Headers, *rest: Any) -> Any:
        kept: Headers = []
        for name, value in headers:
            if name.lower() == "content-type" and any(kind in value.lower() for kind in _ACTIVE):
                kept.append((name, "text/plain; charset=utf-8"))
            elif name.lower() != "access-control-allow-origin":
                kept.append((name, value))
        kept += [("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", "sandbox")]
        return start_response(status, kept, *rest)

    return start
