"""The one rule for the names of studies, on the command line, in study.toml and over HTTP."""

import hashlib
import re

from autotuner.errors import UserError

MOST_CHARACTERS = 100
QUEUE = "autotune-queue"
"""The name of the study that holds the service's queue; its segments have a number after it."""

_RESERVED = re.compile(rf"{QUEUE}(-[0-9]+)?")
_KEPT = MOST_CHARACTERS - 12


def check_name(name: str, where: str) -> str:
    """Return a study's name.

    Args:
        name: not the queue's, printable, neither empty nor blank nor ``.`` or ``..``, of at most
            :data:`MOST_CHARACTERS` characters.
        where: what the message names.

    Raises:
        UserError: if the name breaks the rule.
    """
    problem = name_problem(name)
    if problem is not None:
        raise UserError(f"{where}: {problem}", hint="a name such as resnet-training")
    return name


def name_problem(name: str) -> str | None:
    """Return what is wrong with a study's name; None if nothing is."""
    if not name.strip():
        return "a study's name can't be empty"
    if name in (".", ".."):
        return f"a study's name can't be \"{name}\", which has a meaning in paths"
    if is_reserved(name):
        return f"a study's name can't be \"{name}\", which is the queue's of the service"
    if not name.isprintable():
        return f"a study's name has to be printable, got {ascii(name)[:MOST_CHARACTERS]}"
    if len(name) > MOST_CHARACTERS:
        return f"a study's name has at most {MOST_CHARACTERS} characters, this one {len(name)}"
    return None


def is_reserved(name: str) -> bool:
    """Return whether a study belongs to the service's queue."""
    return _RESERVED.fullmatch(name) is not None


def numbered(name: str, number: int) -> str:
    """Return a name with a number after it, cut if it would be too long."""
    end = f"-{number}"
    return name[: MOST_CHARACTERS - len(end)] + end


def name_from(text: str) -> str:
    """Return a name made of a text, such as that of a file; the text itself if it is a name."""
    if name_problem(text) is None:
        return text
    readable = "".join(c if c.isprintable() else "-" for c in text).strip()[:_KEPT]
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{readable or 'study'}-{digest}"
