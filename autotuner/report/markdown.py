"""Markdown, as GitHub and the dashboard read it: for pull requests, and for the study's note."""

import re
from collections.abc import Iterable, Sequence

from autotuner.plain import plain, plain_lines
from autotuner.report.sections import Grid, Section

_SPECIAL = re.compile(r"([\\`*\[\]<>|~$]|\b_|_\b)")
_LEADING = re.compile(r"^(\d*)([#+.)-])(?=\s)")


def escape(text: str) -> str:
    """Return a text on one line in which nothing is Markdown or HTML."""
    return _LEADING.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", plain(" ".join(text.split()))))


def block(text: str, language: str = "") -> str:
    """Return a text as a code block; the fence is longer than any backticks in it."""
    text = plain_lines(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(grid: Grid) -> str:
    """Return a table with numbers aligned to the right."""
    rules = ["---:" if column in grid.numeric else "---" for column in grid.columns]
    rows = [[escape(cell.text) for cell in row] for row in grid.rows]
    lines = [[escape(column) for column in grid.columns], rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def render_markdown(title: str, sections: Iterable[Section], *, brief: bool = False) -> str:
    """Return a document.

    Args:
        title: its heading.
        sections: its parts.
        brief: without the bulky ones.
    """
    chosen = [section for section in sections if not (brief and section.bulky)]
    return "\n\n".join([f"# {escape(title)}", *map(_render, chosen)]) + "\n"


def _render(section: Section) -> str:
    parts = [f"## {escape(section.title)}", *_paragraphs(section)]
    if section.code:
        parts.append(block(section.code, "sh"))
    if section.grid is not None:
        parts.append(table(section.grid))
    parts += [f"*{escape(picture.alternative)}*" for picture in section.pictures]
    return "\n\n".join(parts)


def _paragraphs(section: Section) -> Sequence[str]:
    lines = [escape(line) for line in section.lines]
    if section.name == "verdict" and lines:
        return [f"**{lines[0]}**", *lines[1:]]
    return lines
