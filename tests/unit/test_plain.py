"""Texts from outside: no terminal, comment, page or file is changed by what they hold."""

import ast
import dataclasses
import io
import tokenize
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from autotuner.errors import UserError
from autotuner.export.content import export_of
from autotuner.export.deployment import render_dockerfile, render_kubernetes, render_systemd
from autotuner.export.formats import render_env, render_json, render_python
from autotuner.plain import plain, plain_lines
from autotuner.report.markdown import render_markdown
from autotuner.report.progress import PlainProgress
from autotuner.report.sections import sections
from autotuner.report.side_by_side import side_by_side
from autotuner.report.tables import studies_table
from autotuner.report.terminal import EVERYTHING, print_sections
from autotuner.statistics.sequential import StoppingRule
from autotuner.verdict.result import Result
from tests.unit.results import a_result

HOSTILE = [
    *("coding=utf-7+AAo-import os;os.abort()+AAo-+ACM-", "encoding=h264", "-*- coding: utf-16 -*-"),
    *(
        "x\nverdict: FASTER 9.99x",
        "x\r\nimport os",
        "\x1b[2J\x1b]0;title\x07",
        "\x9b31m",
        "a\u2028b",
    ),
    *("\u202egnp.exe", "caf\udce9", "\x00", "a\tb", "\x0c", "\x85import os", "größe", "\\"),
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=()), max_size=60)
)


@given(TEXTS)
def test_a_plain_text_is_one_printable_line(text: str) -> None:
    """Nothing that prints is changed; the rest can be read."""
    found = plain(text)
    assert found.isprintable()
    assert (found == text) == text.isprintable()
    assert plain(found) == found
    assert plain_lines(text).split("\n") == [plain(line) for line in text.split("\n")]


def test_escapes_name_their_characters() -> None:
    """As Python writes them."""
    assert plain("a\nb\x1b[1m\udcff\u2028") == r"a\nb\x1b[1m\udcff\u2028"


@given(TEXTS)
def test_messages(text: str) -> None:
    """An error is one line and one hint, whatever its paths hold."""
    error = UserError(f"{text}: no such file", hint=f"give {text}")
    assert error.message.isprintable()
    assert str(error) == error.message
    assert error.hint is not None
    assert error.hint.isprintable()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return a result."""
    return a_result(tmp_path_factory.mktemp("result"))


def with_text(result: Result, text: str) -> Result:
    """Return a result in which a text from outside stands wherever one can."""
    identity = dataclasses.replace(result.facts.identity, model=f"/models/{text}/train.py")
    facts = dataclasses.replace(
        result.facts, identity=identity, phase=text, source=text, folder=Path(text.strip("\0/"))
    )
    records = tuple(
        dataclasses.replace(one, reason=text, machine=text, last_lines=(text,))
        for one in result.records
    )
    return dataclasses.replace(result, facts=facts, study=text, records=records)


@settings(deadline=None, max_examples=30)
@given(TEXTS)
def test_files(result: Result, text: str) -> None:
    """No path ends a comment, declares an encoding, or is no YAML."""
    export = export_of(with_text(result, text), anyway=False)
    settings_only = export_of(result, anyway=False)
    for render in (render_env, render_dockerfile, render_systemd, render_kubernetes, render_python):
        found, usual = render(export), render(settings_only)
        assert all(line.isprintable() for line in found.split("\n"))
        code = [line for line in found.split("\n") if not line.startswith("#")]
        assert code == [line for line in usual.split("\n") if not line.startswith("#")]
    module = render_python(export).encode()
    assert tokenize.detect_encoding(io.BytesIO(module).readline)[0] == "utf-8"
    assert ast.dump(ast.parse(module)) == ast.dump(ast.parse(render_python(settings_only)))
    assert yaml.safe_load(render_kubernetes(export)) == yaml.safe_load(
        render_kubernetes(settings_only)
    )
    assert render_json(export).isascii()


@settings(deadline=None, max_examples=30)
@given(TEXTS)
def test_terminals(result: Result, text: str) -> None:
    """No escape sequence, and no line that is not ours."""
    hostile = with_text(result, text)
    file = io.StringIO()
    console = Console(file=file, width=200)
    found = [*sections(hostile, draw=False), side_by_side(hostile, hostile)]
    print_sections(console, found, EVERYTHING)
    console.print(studies_table([(text, 1, text, text)]))
    assert all(line.isprintable() for line in file.getvalue().split("\n"))
    page = render_markdown(text, found)
    assert all(line.isprintable() for line in page.split("\n"))


@given(TEXTS)
def test_progress(text: str) -> None:
    """A remark is one line."""
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        PlainProgress(StoppingRule(most_pairs=8, margin=0.03)).remark(f"waiting for {text}")
    (line, rest) = stream.getvalue().split("\n")
    assert line.isprintable()
    assert rest == ""
