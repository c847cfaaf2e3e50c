"""Text from outside, before it reaches a terminal, a comment, a page or a log.

Paths, names, exceptions of scripts and other users' files may hold line breaks, escape sequences,
marks that reverse the direction of writing, and bytes that are no UTF-8. All of it passes
:func:`plain`.
"""


def plain(text: str) -> str:
    """Return a text on one line that shows all its characters: others are written as escapes.

    For example, a line break becomes ``\\n`` and the byte 0xff of a path ``\\udcff``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def plain_lines(text: str) -> str:
    """Return a text of several lines, each of them plain; only line feeds break lines."""
    return "\n".join(map(plain, text.split("\n")))
