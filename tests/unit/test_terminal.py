"""Sections on a terminal: whole words, whatever its width."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from autotuner.report.sections import Cell, Grid, Section
from autotuner.report.terminal import (
    EVERYTHING,
    OVERVIEW,
    View,
    fitted,
    print_sections,
    table,
    without_details,
    wrapped,
)

NAMES = ("interleave_parallelism=as_written", "onednn_keep_primitives=0", "kmp_blocktime=200")


def grid_of(*rows: tuple[str, ...], details: tuple[str, ...] = ()) -> Grid:
    """Return a table of texts."""
    return Grid(
        columns=("trial", "outcome", "settings"),
        rows=tuple(tuple(Cell(text=text) for text in row) for row in rows),
        numeric=("trial",),
        details=details,
    )


def printed(section: Section, width: int, view: View = EVERYTHING) -> str:
    """Return what a console of a width shows."""
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        print_sections(console, [section], view)
    return captured.get()


def words(text: str) -> Iterator[str]:
    """Yield the words of a text."""
    yield from text.replace(";", " ").split()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_name_is_broken(width: int) -> None:
    """A table gives way at its spaces; where that does not suffice each row is a paragraph."""
    settings = " ".join(NAMES)
    grid = grid_of(("1", "measured", settings), ("2", "crashed: out of memory", settings))
    text = printed(Section(name="trials", title="Trials", grid=grid), width)
    assert all(list(words(text)).count(name) == 2 for name in NAMES)
    assert max(map(len, text.splitlines())) <= width


def test_a_path_is_broken_rather_than_a_name() -> None:
    """Else one long path would leave no table at all."""
    path = "/a/very/long/path/" + "x" * 80
    grid = grid_of(("1", path, NAMES[0]))
    assert table(grid, 80) is not None
    text = printed(Section(name="trials", title="Trials", grid=grid), 80)
    assert NAMES[0] in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_row_is_a_line_where_there_is_room() -> None:
    """For grep."""
    rows = [(str(k), "measured", " ".join(NAMES)) for k in range(20)]
    text = printed(Section(name="trials", title="Trials", grid=grid_of(*rows)), 200)
    assert sum(" ".join(NAMES) in line for line in text.splitlines()) == 20


@pytest.mark.parametrize(
    ("natural", "least", "room", "widths"),
    [
        ([5, 10, 20], [5, 5, 5], 40, [5, 10, 20]),
        ([5, 10, 20], [5, 5, 5], 30, [5, 10, 15]),
        ([5, 10, 20], [5, 5, 5], 21, [5, 8, 8]),
        ([5, 10, 20], [5, 10, 5], 21, [5, 10, 6]),
        ([5, 10, 20], [5, 5, 5], 15, [5, 5, 5]),
        ([5, 10, 20], [5, 5, 5], 14, None),
    ],
)
def test_the_widest_column_gives_way_first(
    natural: list[int], least: list[int], room: int, widths: list[int] | None
) -> None:
    """None gets narrower than its longest word."""
    assert fitted(natural, least, room) == widths


def test_a_brief_view_omits_details() -> None:
    """Columns of details, code to copy, and sections that it does not name."""
    grid = grid_of(("1", "measured", "a=1"), details=("outcome",))
    assert without_details(grid).columns == ("trial", "settings")
    trials = Section(name="trials", title="Trials", code="export A=1", grid=grid)
    assert "measured" not in printed(trials, 80, OVERVIEW)
    assert "export A=1" not in printed(trials, 80, OVERVIEW)
    assert "  export A=1" in printed(trials, 80)
    other = Section(name="other", title="Other", lines=("text",))
    assert printed(other, 80, OVERVIEW) == ""
    untitled = View(names=None, brief=True, titled=False)
    assert printed(other, 80, untitled) == "text\n\n"


def test_paragraphs_are_whole_in_a_pipe_and_wrapped_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """COLUMNS stands for a terminal; a path stays whole, to be copied."""
    section = Section(name="verdict", title="Verdict", lines=("word " * 30 + "/" + "p" * 70,))
    monkeypatch.delenv("COLUMNS", raising=False)
    assert section.lines[0] in printed(section, 60)
    monkeypatch.setenv("COLUMNS", "60")
    lines = printed(section, 60).splitlines()
    assert section.lines[0] not in lines
    assert "/" + "p" * 70 in lines
    assert wrapped("one two-three four", 9) == "one\ntwo-three\nfour"
