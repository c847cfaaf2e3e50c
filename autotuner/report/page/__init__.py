"""The report as one self-contained HTML file: no network, light and dark, to read and to print."""

import importlib.resources
import json

import jinja2
from plotly.offline import get_plotlyjs

from autotuner.report.contents import Contents
from autotuner.report.sections import sections


def render_page(contents: Contents) -> str:
    """Return the page. Everything in it that comes from the study is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = sections(contents)
    figures = {
        picture.name: json.loads(picture.figure.to_json())
        for section in found
        for picture in section.pictures
    }
    return environment.get_template("report.html").render(
        study=contents.export.study,
        created=contents.export.created,
        verdict=contents.decision.verdict.value,
        recommended=contents.decision.is_recommended,
        sections=found,
        figures=figures,
        plotly=get_plotlyjs(),
        style=_source("report.css"),
        script=_source("report.js"),
    )


def _source(name: str) -> str:
    return importlib.resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
