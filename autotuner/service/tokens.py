"""Tokens, which allow reading or submitting. The storage holds their hashes only.

A token is ``at_ID_SECRET``. Its secret has 256 random bits, so one pass of SHA-256 is enough:
unlike a password it can't be guessed.
"""

import dataclasses
import enum
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from autotuner.codec import from_json, to_json
from autotuner.study.queue_store import QueueStore

_PREFIX = "token:"
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

    name: str
    scopes: frozenset[Scope]
    created: str
    sha256: str
    revoked: bool = False


def create_token(store: QueueStore, name: str, scopes: Collection[Scope]) -> str:
    """Make a token and return it: this once, as only its hash is kept."""
    key, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    stored = _Stored(
        name=name,
        scopes=frozenset(scopes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sha256=_hash(secret),
    )
    _write(store, key, stored)
    return f"at_{key}_{secret}"


def list_tokens(store: QueueStore) -> list[Token]:
    """Return all tokens, the oldest first."""
    attributes = store.attributes()
    keys = [name.removeprefix(_PREFIX) for name in attributes if name.startswith(_PREFIX)]
    found = [(key, _read(attributes, key)) for key in keys]
    tokens = [_token(key, stored) for key, stored in found if stored is not None]
    return sorted(tokens, key=lambda token: token.created)


def revoke_token(store: QueueStore, key: str) -> bool:
    """Revoke a token; return False if there is none of that key."""
    stored = _read(store.attributes(), key)
    if stored is None:
        return False
    _write(store, key, dataclasses.replace(stored, revoked=True))
    return True


def check_token(attributes: Mapping[str, Any], given: str) -> Token | None:
    """Return the token that a client has sent; None if it is not valid.

    Args:
        attributes: of the queue.
        given: what the client has sent.
    """
    form = _FORM.fullmatch(given)
    stored = _read(attributes, form[1]) if form else None
    # always compared, so that the time it takes reveals nothing
    same = hmac.compare_digest(_hash(form[2] if form else ""), stored.sha256 if stored else "")
    if form is None or stored is None or not same or stored.revoked:
        return None
    return _token(form[1], stored)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(attributes: Mapping[str, Any], key: str) -> _Stored | None:
    text = attributes.get(_PREFIX + key)
    return None if text is None else from_json(_Stored, json.loads(text))


def _write(store: QueueStore, key: str, stored: _Stored) -> None:
    store.set_attribute(_PREFIX + key, json.dumps(to_json(stored)))


def _token(key: str, stored: _Stored) -> Token:
    return Token(
        key=key,
        name=stored.name,
        scopes=stored.scopes,
        created=stored.created,
        revoked=stored.revoked,
    )
