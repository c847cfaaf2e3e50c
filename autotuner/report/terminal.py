"""The sections of a result on a terminal. Of all words only paths are ever broken."""

import dataclasses
import os
import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autotuner.plain import plain
from autotuner.report.lists import plain_table
from autotuner.report.sections import Grid, Section

_GAP = 2
_LEAST_OF_A_PATH = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """The part of the sections to show. ``names``: the sections, in this order; None: all.

    ``brief``: without the details of tables, and without code to copy. ``titled``: with headings.
    """

    names: tuple[str, ...] | None
    brief: bool
    titled: bool = True


RUN_END = View(names=("search", "verdict", "noise"), brief=True, titled=False)
OVERVIEW = View(names=("machine", "verdict", "search", "bottleneck", "noise", "trials"), brief=True)
EVERYTHING = View(names=None, brief=False)


def print_sections(console: Console, sections: Iterable[Section], view: View) -> None:
    """Print sections; a pipe gets each paragraph as one line, for grep."""
    by_name = {section.name: section for section in sections}
    names = tuple(by_name) if view.names is None else view.names
    for section in (by_name[name] for name in names if name in by_name):
        if view.titled:
            console.print(Text(section.title, style="bold underline"))
        for number, line in enumerate(section.lines):
            is_verdict = section.name == "verdict" and number == 0
            print_paragraph(console, line, style="bold" if is_verdict else "")
        if section.code and not view.brief:
            console.print(Text(textwrap.indent(section.code, "  ")), soft_wrap=True)
        if section.grid is not None:
            print_grid(console, without_details(section.grid) if view.brief else section.grid)
        console.print()


def print_paragraph(console: Console, text: str, *, style: str = "") -> None:
    """Print a text, wrapped on a terminal; a pipe gets one line, for grep."""
    text = plain(text)
    if console.is_terminal or os.environ.get("COLUMNS"):
        text = wrapped(text, console.width)
    console.print(Text(text, style=style), soft_wrap=True)


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Return a text in lines of a width; a path that is longer stays whole, to be copied."""
    return textwrap.fill(
        text,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_grid(console: Console, grid: Grid) -> None:
    """Print a table, or each row as a paragraph if the table would be too wide."""
    found = table(grid, console.width)
    if found is not None:
        console.print(found)
        return
    for row in grid.rows:
        cells = zip(grid.columns, row, strict=True)
        text = "; ".join(f"{name} {cell.text}".strip() for name, cell in cells if cell.text)
        console.print(Text(wrapped(text, console.width, indent="    ")), soft_wrap=True)


def without_details(grid: Grid) -> Grid:
    """Return a table without the columns that a brief view omits."""
    kept = [k for k, column in enumerate(grid.columns) if column not in grid.details]
    return Grid(
        columns=tuple(grid.columns[k] for k in kept),
        rows=tuple(tuple(row[k] for k in kept) for row in grid.rows),
        numeric=grid.numeric,
    )


def table(grid: Grid, width: int) -> Table | None:
    """Return a table of a width; None if it would have to break words."""
    columns = [[name, *(row[k].text for row in grid.rows)] for k, name in enumerate(grid.columns)]
    natural = [max(map(len, texts)) for texts in columns]
    least = [max(map(_longest_word, texts)) for texts in columns]
    widths = fitted(natural, least, width - _GAP * (len(columns) - 1))
    if widths is None:
        return None
    made = plain_table(*grid.columns, right=grid.numeric)
    for column, size in zip(made.columns, widths, strict=True):
        column.width = size
    for row in grid.rows:
        made.add_row(*(Text(cell.text) for cell in row))
    return made


def _longest_word(text: str) -> int:
    """Return the length of the longest word; paths may be broken, names may not."""
    words = text.split()
    return max((min(len(w), _LEAST_OF_A_PATH) if "/" in w else len(w) for w in words), default=0)


def fitted(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Return the widths of columns: the widest one gives way first; None if there is no room."""
    widths = list(natural)
    while sum(widths) > room:
        loose = [k for k, width in enumerate(widths) if width > least[k]]
        if not loose:
            return None
        widths[max(loose, key=lambda k: widths[k])] -= 1
    return widths
