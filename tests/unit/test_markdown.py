"""Markdown of sections: what is text stays text."""

import pytest

from autotuner.report.markdown import block, escape, render_markdown, table
from autotuner.report.sections import Cell, Grid, Section


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a*b", r"a\*b"),
        ("<b>", r"\<b\>"),
        ("a | b", r"a \| b"),
        ("intra_op", "intra_op"),
        ("_x_", r"\_x\_"),
        ("# title", r"\# title"),
        ("1. item", r"1\. item"),
        ("- item", r"\- item"),
        ("1.5 s", "1.5 s"),
        ("two\nlines", "two lines"),
    ],
)
def test_special_characters_are_escaped(text: str, escaped: str) -> None:
    """In the middle of a word an underscore means nothing, and a name stays readable."""
    assert escape(text) == escaped


def test_a_code_block_outlasts_its_content() -> None:
    """Its fence is longer than any in it."""
    assert block("a ``` b\n", "sh") == "````sh\na ``` b\n````"
    assert block("plain") == "```\nplain\n```"


def test_a_table_has_its_numbers_to_the_right() -> None:
    """And no cell ends its row."""
    grid = Grid(columns=("a", "n"), rows=((Cell(text="x|y"), Cell(text="1")),), numeric=("n",))
    assert table(grid) == "| a | n |\n| --- | ---: |\n| x\\|y | 1 |"


def test_a_document() -> None:
    """Headings, paragraphs, code and tables in this order; the verdict in bold."""
    verdict = Section(name="verdict", title="Verdict", lines=("FASTER", "more"), code="export A=1")
    bulky = Section(name="trials", title="Trials", lines=("long",), bulky=True)
    text = render_markdown("a study", [verdict, bulky])
    assert text.startswith(
        "# a study\n\n## Verdict\n\n**FASTER**\n\nmore\n\n```sh\nexport A=1\n```"
    )
    assert text.endswith("## Trials\n\nlong\n")
    assert "Trials" not in render_markdown("a study", [verdict, bulky], brief=True)
