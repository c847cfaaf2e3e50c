"""The report as one self-contained HTML file: no network, light and dark, to read and to print."""

import importlib.resources
import json

from autotuner.report.sections import sections
from autotuner.verdict.result import Result


def render_page(result: Result, *, anyway: bool = False) -> str:
    """Return the page; everything in it that comes from the study is escaped.

    Args:
        result: of the study.
        anyway: the files hold the best of the search even if it is not recommended.
    """
    # most commands write no page, and need not wait for these
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = sections(result, anyway=anyway)
    figures = {
        picture.name: json.loads(picture.figure.to_json())
        for section in found
        for picture in section.pictures
    }
    return environment.get_template("report.html").render(
        study=result.study,
        created=result.as_of,
        verdict=result.decision.verdict.value,
        recommended=result.decision.is_recommended,
        sections=found,
        figures=figures,
        plotly=get_plotlyjs(),
        style=_source("report.css"),
        script=_source("report.js"),
    )


def _source(name: str) -> str:
    return importlib.resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
