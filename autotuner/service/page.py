"""The service's pages: the studies, to be read without JavaScript; they look like the report."""

import importlib.resources
import shlex
from collections.abc import Sequence

import jinja2

from autotuner.service.views import MEDIA_TYPES, StudyView

_OWN, _REPORT = "autotuner.service.pages", "autotuner.report.page"


def overview_page(studies: Sequence[StudyView], scripts: Sequence[str], dashboard: str) -> str:
    """Return the page of all studies. Everything in it that comes from them is escaped."""
    return _render(
        "overview.html",
        studies=studies,
        scripts=scripts,
        dashboard=dashboard,
        active=any(view.is_active for view in studies),
        files=list(MEDIA_TYPES),
    )


def login_page(*, wrong: bool) -> str:
    """Return the page that asks for a token."""
    return _render("login.html", wrong=wrong)


def _render(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _source(_OWN, name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"day_and_time": _day_and_time, "in_a_shell": shlex.quote}
    style = _source(_REPORT, "report.css") + _source(_OWN, "service.css")
    return environment.get_template(template).render(style=style, **values)


def _day_and_time(moment: str) -> str:
    """Return a time in UTC, as the queue has it, in fewer words."""
    return moment[:16].replace("T", " ") + " UTC"


def _source(package: str, name: str) -> str:
    return importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")
