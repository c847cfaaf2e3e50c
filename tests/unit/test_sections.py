"""The sections of a result, and that every rendering shows the same ones."""

import dataclasses
import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from autotuner.report.json_report import render_report_json
from autotuner.report.markdown import escape, render_markdown
from autotuner.report.notes import study_note
from autotuner.report.page import render_page
from autotuner.report.sections import Section, sections
from autotuner.report.side_by_side import side_by_side
from autotuner.report.terminal import EVERYTHING, OVERVIEW, RUN_END, View, print_sections
from autotuner.study.warm_check import WarmCheck
from autotuner.trial.outcome import Notice
from autotuner.verdict.decision import Candidate
from autotuner.verdict.result import Result
from tests.unit.results import A_SEARCH, FAST, a_result, decided


def named(result: Result, *, anyway: bool = False) -> dict[str, Section]:
    """Return the sections by their names."""
    return {one.name: one for one in sections(result, anyway=anyway, draw=False)}


def terminal(view: View) -> Callable[[Result], str]:
    """Return what a pipe gets of a result."""

    def render(result: Result) -> str:
        console = Console(width=200, highlight=False, color_system=None)
        with console.capture() as captured:
            print_sections(console, sections(result, draw=False), view)
        return captured.get()

    return render


def read_json(result: Result) -> str:
    """Return the texts in the JSON report."""
    found = json.loads(render_report_json(result))["sections"]
    return "\n".join(line for lines in found.values() for line in lines)


def read_markdown(render: Callable[[Result], str]) -> Callable[[Result], str]:
    """Return the text that a Markdown document shows."""
    return lambda result: re.sub(r"\\(.)", r"\1", render(result))


RENDERINGS = {
    "show": terminal(OVERVIEW),
    "show --verbose": terminal(EVERYTHING),
    "end of run": terminal(RUN_END),
    "report --format md": read_markdown(
        lambda result: render_markdown(result.study, sections(result))
    ),
    "report.html": lambda result: html.unescape(render_page(result)),
    "report --format json": read_json,
    "note in the dashboard": read_markdown(study_note),
}


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_every_rendering_shows_the_same(rendering: str, tmp_path: Path) -> None:
    """The verdict, what to deploy, and how noisy it was are worded once and appear everywhere."""
    result = a_result(tmp_path)
    text = RENDERINGS[rendering](result)
    found = named(result)
    assert found["verdict"].lines[0] == result.sentence
    assert "To deploy: intra_op=2 onednn=0." in found["verdict"].lines
    assert len(found["noise"].lines) >= 2
    for line in (*found["verdict"].lines, *found["noise"].lines, *found["search"].lines):
        assert line in text


def test_the_verdict_comes_first_and_every_section_has_a_title(tmp_path: Path) -> None:
    """What is not known has no section."""
    result = a_result(tmp_path)
    found = sections(result)
    assert found[0].name == "verdict"
    assert [one.name for one in found if not one.title] == []
    assert {picture.name for one in found for picture in one.pictures} == {
        "final",
        "ratios",
        "effects",
    }
    bare = dataclasses.replace(
        result,
        records=A_SEARCH[:1],
        noise=None,
        diagnosis=None,
        facts=dataclasses.replace(result.facts, liveness=()),
        decision=dataclasses.replace(result.decision, finding=None),
    )
    missing = {"effects", "knobs", "bottleneck", "noise"}
    assert set(named(result)) - set(named(bare)) == missing


@pytest.mark.parametrize(
    ("proven", "anyway"), [(True, False), (True, True), (False, False), (False, True)]
)
def test_what_to_deploy_is_what_the_files_hold(tmp_path: Path, proven: bool, anyway: bool) -> None:
    """The best if it is proven or asked for; and the report says which of the two it is."""
    result = a_result(tmp_path)
    if not proven:
        result = decided(result, finding=None)
    found = named(result, anyway=anyway)
    lines = "\n".join(found["verdict"].lines)
    assert ("To deploy: intra_op=2 onednn=0." in lines) is (proven or anyway)
    assert ("TensorFlow's defaults as explicit values" in lines) is not (proven or anyway)
    assert ("exported anyway" in lines) is (anyway and not proven)
    assert ("export TF_NUM_INTRAOP_THREADS=2" in found["configuration"].code) is (proven or anyway)


def test_the_scripts_own_settings_and_notices_are_part_of_the_verdict(tmp_path: Path) -> None:
    """With the advice to remove a line that would win over the files."""
    notice = Notice(kind="override", where="train.py:3", text="sets threads", knob=None, value=None)
    result = a_result(tmp_path)
    facts = dataclasses.replace(result.facts, notices=(notice,))
    own = Candidate(configuration=FAST, gain=1.1, trials=1)
    lines = named(decided(dataclasses.replace(result, facts=facts), own=own))["verdict"].lines
    assert any("with its own settings" in line and "1.10x" in line for line in lines)
    assert any(line.startswith("note: train.py:3: sets threads; ") for line in lines)


def test_the_search_compares_named_configurations(tmp_path: Path) -> None:
    """By their scores, with the final's ratio for the best alone."""
    grid = named(a_result(tmp_path))["search"].grid
    assert grid is not None
    assert grid.columns == ("configuration", "steps/s", "search", "final", "settings that differ")
    texts = [[cell.text for cell in row] for row in grid.rows]
    assert texts == [
        ["TensorFlow's defaults", "100", "1.00x", "", "as the default"],
        ["best", "126", "1.26x", "1.25x", "intra_op=2 onednn=0"],
    ]


def test_every_trial_has_a_row(tmp_path: Path) -> None:
    """Failures with their reasons; numbers sort by their values."""
    result = a_result(tmp_path)
    grid = named(result)["trials"].grid
    assert grid is not None
    assert len(grid.rows) == len(result.records)
    rows = [dict(zip(grid.columns, row, strict=True)) for row in grid.rows]
    assert rows[2]["95 % interval"].text == "1.20x to 1.32x"
    assert rows[2]["gain"].value == pytest.approx(1.26)
    assert rows[3]["others' CPUs"].text == "0.8"
    assert rows[4]["outcome"].text == "crashed: boom"
    assert rows[4]["gain"].text == ""
    assert set(grid.details) < set(grid.columns)


def test_where_the_time_went_adds_up(tmp_path: Path) -> None:
    """To the time that the trials took by the clock."""
    stages = {"warmup": 100.0, "measure": 200.0, "reference": 50.0}
    records = (dataclasses.replace(A_SEARCH[0], stages_s=stages), *A_SEARCH[1:])
    check = WarmCheck(used=True, why="no difference")
    result = dataclasses.replace(a_result(tmp_path), records=records, warm_check=check)
    section = named(result)["time"]
    assert section.lines == (
        "Warm-up and measuring: 50.0 % of 10 min 00 s.",
        "Warm start on: no difference.",
    )
    assert section.grid is not None
    assert sum(row[1].value or 0.0 for row in section.grid.rows) == pytest.approx(600)


def test_two_results_side_by_side(tmp_path: Path) -> None:
    """An asterisk marks what differs."""
    first = a_result(tmp_path)
    facts = dataclasses.replace(first.facts, base=50.0)
    second = dataclasses.replace(first, study="t", facts=facts, diagnosis=None)
    grid = side_by_side(first, second).grid
    assert grid is not None
    assert grid.columns == ("", "", "s", "t")
    rows = {row[1].text: [row[k].text for k in (0, 2, 3)] for row in grid.rows}
    assert rows["verdict"] == ["", "FASTER", "FASTER"]
    assert rows["defaults, steps/s"] == ["*", "100", "50.0"]
    assert rows["bottleneck"] == ["*", "compute", "-"]
    assert rows["intra_op"] == ["", "2", "2"]


def test_nothing_in_a_study_becomes_markup(tmp_path: Path) -> None:
    """Neither of a page nor of Markdown nor of the terminal."""
    odd = "<script>alert(1)</script> [bold]x[/bold] |"
    result = a_result(tmp_path)
    records = (*result.records[:4], dataclasses.replace(result.records[4], reason=odd))
    result = dataclasses.replace(result, records=records)
    assert "<script>alert" not in render_page(result)
    assert "<script>alert" not in render_markdown("s", sections(result))
    assert escape(odd) in render_markdown("s", sections(result))
    assert odd in terminal(OVERVIEW)(result)
