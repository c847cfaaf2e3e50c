"""Tokens: who may read, and who may submit. The storage holds their hashes only.

A token is ``at_ID_SECRET``. Its secret has 256 random bits, so that one pass of SHA-256 is enough:
there is nothing to guess, unlike with a password.
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

import optuna

_PREFIX = "token:"
_FORM = re.compile(r"at_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Scope(enum.StrEnum):
    """What a token allows; to submit includes to cancel."""

    READ = "read"
    SUBMIT = "submit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Token:
    """What is known of a token: not itself."""

    key: str
    name: str
    scopes: frozenset[Scope]
    created: str
    revoked: bool = False


def create_token(queue: optuna.Study, name: str, scopes: Collection[Scope]) -> str:
    """Make a token and return it: this once, as only its hash is kept."""
    key, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    fields = {
        "name": name,
        "scopes": sorted(scope.value for scope in scopes),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": _hash(secret),
        "revoked": False,
    }
    queue.set_user_attr(_PREFIX + key, json.dumps(fields))
    return f"at_{key}_{secret}"


def list_tokens(queue: optuna.Study) -> list[Token]:
    """Return all tokens, the oldest first."""
    found = [
        _token(name.removeprefix(_PREFIX), json.loads(text))
        for name, text in queue.user_attrs.items()
        if name.startswith(_PREFIX)
    ]
    return sorted(found, key=lambda token: token.created)


def revoke_token(queue: optuna.Study, key: str) -> bool:
    """Let a token not be valid any more; return False if there is none of that key."""
    stored = queue.user_attrs.get(_PREFIX + key)
    if stored is None:
        return False
    queue.set_user_attr(_PREFIX + key, json.dumps({**json.loads(stored), "revoked": True}))
    return True


def check_token(attributes: Mapping[str, Any], given: str) -> Token | None:
    """Return the token that somebody has given; None if it is not valid.

    Args:
        attributes: user attributes of the queue's study.
        given: what he has given.
    """
    form = _FORM.fullmatch(given)
    stored = attributes.get(_PREFIX + form[1]) if form else None
    fields: dict[str, Any] = json.loads(stored) if stored else {"sha256": "", "revoked": True}
    secret = form[2] if form else ""
    # compared whatever there is, so that time tells nothing
    same = hmac.compare_digest(_hash(secret), str(fields["sha256"]))
    if form is None or not same or fields["revoked"]:
        return None
    return _token(form[1], fields)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(key: str, fields: Mapping[str, Any]) -> Token:
    return Token(
        key=key,
        name=fields["name"],
        scopes=frozenset(Scope(scope) for scope in fields["scopes"]),
        created=fields["created"],
        revoked=fields["revoked"],
    )
