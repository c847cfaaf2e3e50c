"""Tokens, which allow reading or submitting. The storage holds their hashes only.

A stored token has a schema number. A token of another schema is not listed and not accepted.

A token is ``at_ID_SECRET``. Its secret has 256 random bits, so one pass of SHA-256 is enough:
unlike a password it can't be guessed.
"""

import asyncio
import dataclasses
import enum
import hashlib
import hmac
import json
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from autotuner.codec import from_stored, to_stored
from autotuner.study.queue_store import QueueStore

SCHEMA = 1
_PREFIX = "token:"
_CACHED_S = 1.0
_CACHED_UNKNOWN_S = 0.1
_FORM = re.compile(r"at_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Scope(enum.StrEnum):
    """What a token allows; to submit includes to cancel."""

    READ = "read"
    SUBMIT = "submit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Token:
    """What is known of a token, without its secret."""

    key: str
    name: str
    scopes: frozenset[Scope]
    created: str
    revoked: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Stored:
    """A token as the storage holds it."""

    token: Token
    sha256: str


def create_token(store: QueueStore, name: str, scopes: Collection[Scope]) -> str:
    """Make a token and return it: this once, as only its hash is kept."""
    key, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    token = Token(key=key, name=name, scopes=frozenset(scopes), created=created)
    _write(store, _Stored(token=token, sha256=_hash(secret)))
    return f"at_{key}_{secret}"


def list_tokens(store: QueueStore) -> list[Token]:
    """Return all tokens, the oldest first."""
    texts = [text for name, text in store.attributes().items() if name.startswith(_PREFIX)]
    known = [stored.token for text in texts if (stored := _stored(text)) is not None]
    return sorted(known, key=lambda token: token.created)


def revoke_token(store: QueueStore, key: str) -> bool:
    """Revoke a token; return False if there is none of that key."""
    stored = _stored(store.attributes().get(_PREFIX + key))
    if stored is None:
        return False
    revoked = dataclasses.replace(stored.token, revoked=True)
    _write(store, dataclasses.replace(stored, token=revoked))
    return True


def check_token(attributes: Mapping[str, Any], given: str) -> Token | None:
    """Return the token that a client has sent; None if it is not valid.

    Args:
        attributes: of the queue.
        given: what the client has sent.
    """
    form = _FORM.fullmatch(given)
    stored = _stored(attributes.get(_PREFIX + form[1])) if form else None
    # always compared, so that the time it takes reveals nothing
    same = hmac.compare_digest(_hash(form[2] if form else ""), stored.sha256 if stored else "")
    return stored.token if stored is not None and same and not stored.token.revoked else None


class TokenCache:
    """The tokens of a queue, read at most once a second: clients poll.

    A token that was revoked is valid for up to a second more. One that is not known may be new, so
    the tokens are read again, but not for each guess.

    Args:
        read: returns the queue's attributes.
        monotonic: a clock.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Any]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._attributes: Mapping[str, Any] = {}
        self._read_at = -math.inf
        self._reading = threading.Lock()

    async def find(self, given: str) -> Token | None:
        """Return the token that a client has sent; None if it is not valid."""
        await self._renew(_CACHED_S)
        found = check_token(self._attributes, given)
        if found is None:
            await self._renew(_CACHED_UNKNOWN_S)
            found = check_token(self._attributes, given)
        return found

    async def _renew(self, after_s: float) -> None:
        if self._is_old(after_s):
            # others go on meanwhile: a database may take its time
            await asyncio.to_thread(self._read_once, after_s)

    def _read_once(self, after_s: float) -> None:
        """Read the tokens, unless another request has done so meanwhile."""
        with self._reading:
            if self._is_old(after_s):
                now = self._monotonic()
                self._attributes, self._read_at = self._read(), now

    def _is_old(self, after_s: float) -> bool:
        return self._monotonic() - self._read_at >= after_s


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _stored(text: str | None) -> _Stored | None:
    """Return a token from the storage's text; None if there is none of our schema."""
    return None if text is None else from_stored(_Stored, json.loads(text), SCHEMA)


def _write(store: QueueStore, stored: _Stored) -> None:
    store.set_attribute(_PREFIX + stored.token.key, json.dumps(to_stored(stored, SCHEMA)))
