"""The one rule for the names of studies, on the command line, in study.toml and over HTTP."""

import hashlib

from autotuner.errors import UserError

MOST_CHARACTERS = 100
_KEPT = MOST_CHARACTERS - 12


def check_name(name: str, where: str) -> str:
    """Return a study's name.

    Args:
        name: printable, neither empty nor blank, of at most :data:`MOST_CHARACTERS` characters.
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
    if not name.isprintable():
        return f"a study's name has to be printable, got {ascii(name)[:MOST_CHARACTERS]}"
    if len(name) > MOST_CHARACTERS:
        return f"a study's name has at most {MOST_CHARACTERS} characters, this one {len(name)}"
    return None


def name_from(text: str) -> str:
    """Return a name made of a text, such as that of a file; the text itself if it is a name."""
    if name_problem(text) is None:
        return text
    readable = "".join(c if c.isprintable() else "-" for c in text).strip()[:_KEPT]
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{readable or 'study'}-{digest}"
