"""Logging in with a browser: the login page, the cookie, and the sessions behind it."""

import dataclasses
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, quote, urlsplit

from autotuner.service.tokens import Token

_MOST_SESSIONS = 1024
SESSION_S = 86_400
"""How long a session lasts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoginPage:
    """The login page of an application.

    ``path``: where it is. ``cookie``: the name of its cookie, which browsers send to all ports of a
    host. ``title``: of the page. ``hint``: where the user finds a token.
    """

    path: str
    cookie: str
    title: str
    hint: str

    @property
    def logout(self) -> str:
        """Where a browser ends its session, by POST."""
        return f"{self.path}/out"

    def url(self, target: str) -> str:
        """Return the address of the page that leads to a path after the login."""
        return self.path if target == "/" else f"{self.path}?next={quote(target, safe='')}"


class Sessions:
    """The sessions of browsers, by random numbers; a day or a restart ends them."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, token: str) -> str:
        """Return a new session for a token."""
        session = secrets.token_urlsafe(32)
        self._tokens[session] = (token, self._monotonic() + SESSION_S)
        if len(self._tokens) > _MOST_SESSIONS:
            self._tokens.popitem(last=False)
        return session

    def token(self, session: str) -> str | None:
        """Return the token of a session. It must be checked again: it may have been revoked."""
        token, until = self._tokens.get(session, (None, 0.0))
        return token if self._monotonic() < until else None

    def end(self, session: str) -> None:
        """End a session, if there is one of that number."""
        self._tokens.pop(session, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Login:
    """How the clients of an application log in.

    ``find_token``: returns what is known of a token, None if it is not valid. ``is_guessable``: a
    user has chosen the token, which may be short.
    """

    page: LoginPage
    find_token: Callable[[str], Awaitable[Token | None]]
    is_guessable: bool = False
    sessions: Sessions = dataclasses.field(default_factory=Sessions)


def cookie_value(header: str, wanted: str) -> str:
    """Return the value of a cookie in a Cookie header, empty if it is not there."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value
    return ""


def form_field(encoded: str, name: str) -> str:
    """Return the first value of a field in a URL-encoded form or query, empty without one."""
    try:
        return parse_qs(encoded).get(name, [""])[0]
    except ValueError:  # more fields than Python reads
        return ""


def local_path(target: str) -> str:
    """Return the path to which a login leads: a given one, or ``/`` if it is not one of ours."""
    try:
        elsewhere = bool(urlsplit(target).netloc)
    except ValueError:
        return "/"
    safe = target.startswith("/") and not target.startswith(("//", "/\\"))
    if not safe or elsewhere or not target.isprintable():
        return "/"
    return quote(target, safe="/?&=%#~!$'()*+,;:@")
