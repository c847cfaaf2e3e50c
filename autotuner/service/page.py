"""The service's page: the studies, to be read without JavaScript; it looks like the report."""

import importlib.resources
from collections.abc import Sequence

import jinja2

from autotuner.service.views import StudyView


def overview_page(
    studies: Sequence[StudyView], scripts: Sequence[str], dashboard: str | None
) -> str:
    """Return the page of all studies. Everything in it that comes from them is escaped."""
    active = any(view.state in ("queued", "running") for view in studies)
    return _render(
        "overview.html", studies=studies, scripts=scripts, dashboard=dashboard, active=active
    )


def login_page(*, wrong: bool) -> str:
    """Return the page that asks for a token."""
    return _render("login.html", wrong=wrong)


def _render(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _source("autotuner.service.pages", name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _source("autotuner.report.page", "report.css")
    return environment.get_template(template).render(style=style, **values)


def _source(package: str, name: str) -> str:
    return importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")
