"""``autotune report``: the result of a study, as a page, as Markdown, or as JSON."""

import enum
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from autotuner.cli.browse import open_result, storage_name
from autotuner.errors import UserError, did_you_mean
from autotuner.files import write_whole
from autotuner.plain import plain
from autotuner.report.json_report import render_report_json
from autotuner.report.markdown import render_markdown
from autotuner.report.page import render_page
from autotuner.report.sections import sections
from autotuner.study.folders import HOME, claim_folder
from autotuner.verdict.result import Result

PAGE = "report.html"


class ReportFormat(enum.StrEnum):
    """A format of the report."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"


_RENDERERS: Mapping[ReportFormat, Callable[[Result], str]] = {
    ReportFormat.HTML: render_page,
    ReportFormat.MARKDOWN: lambda result: render_markdown(result.study, sections(result)),
    ReportFormat.JSON: render_report_json,
}


def write_page(result: Result, folder: Path, *, anyway: bool = False) -> Path:
    """Write ``report.html`` into the study's folder; it appears whole or not at all.

    Args:
        result: of the study.
        folder: of the study.
        anyway: the files beside it hold the best of the search even if it is not recommended.
    """
    path = folder / PAGE
    write_whole(path, render_page(result, anyway=anyway))
    return path


def report_study(study: str, *, kind: str, output: Path | None, storage_url: str | None) -> None:
    """Write a study's report: a page beside its other files, anything else to standard output."""
    known = [one.value for one in ReportFormat]
    if kind not in known:
        hint = did_you_mean(kind, known)
        raise UserError(f'--format: unknown format "{kind}"', hint=hint)
    result = open_result(study, storage_url)
    text = _RENDERERS[ReportFormat(kind)](result)
    if output is None and kind != ReportFormat.HTML:
        sys.stdout.write(text)
        return
    path = output or claim_folder(HOME, study, storage_name(storage_url)) / PAGE
    try:
        write_whole(path, text)
    except OSError as error:
        hint = "give --output another place"
        raise UserError(f"{path}: can't be written: {error.strerror}", hint=hint) from error
    if output is None:
        sys.stdout.write(plain(str(path)) + "\n")
