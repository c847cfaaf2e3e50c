"""``autotune report``: what a study has shown, as a page, as Markdown, or as JSON."""

import enum
import sys
from pathlib import Path

from autotuner.cli.browse import open_contents
from autotuner.errors import UserError, did_you_mean
from autotuner.export.writing import write_whole
from autotuner.report.contents import Contents
from autotuner.report.json_report import render_report_json
from autotuner.report.markdown import render_markdown
from autotuner.report.page import render_page
from autotuner.report.sections import sections

PAGE = "report.html"


class ReportFormat(enum.StrEnum):
    """A format of the report."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"


def render(contents: Contents, kind: ReportFormat) -> str:
    """Return the report."""
    match kind:
        case ReportFormat.HTML:
            return render_page(contents)
        case ReportFormat.MARKDOWN:
            return render_markdown(contents.export.study, sections(contents))
        case ReportFormat.JSON:
            return render_report_json(contents)


def write_page(contents: Contents, folder: Path) -> Path:
    """Write ``report.html`` into the study's folder; it appears whole or not at all."""
    path = folder / PAGE
    write_whole(path, render_page(contents))
    return path


def report_study(study: str, *, kind: str, output: Path | None, storage_url: str | None) -> None:
    """Write a study's report: a page beside its other files, anything else to standard output."""
    known = [one.value for one in ReportFormat]
    if kind not in known:
        hint = did_you_mean(kind, known)
        raise UserError(f'--format: unknown format "{kind}"', hint=hint)
    contents = open_contents(study, storage_url)
    text = render(contents, ReportFormat(kind))
    if output is None and kind != ReportFormat.HTML:
        sys.stdout.write(text)
        return
    path = output or contents.facts.folder / PAGE
    try:
        write_whole(path, text)
    except OSError as error:
        hint = "give --output another place"
        raise UserError(f"{path}: can't be written: {error.strerror}", hint=hint) from error
    if output is None:
        sys.stdout.write(f"{path}\n")
