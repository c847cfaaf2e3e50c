"""The pages of the service: readable without JavaScript, in the style of the report."""

import functools
import importlib.resources
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import jinja2

if TYPE_CHECKING:
    from autotuner.service.views import Page

PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""The Content-Security-Policy of the pages."""

_OWN, _REPORT = "autotuner.service.pages", "autotuner.report.page"


def overview_page(
    page: "Page",
    *,
    files: Sequence[str],
    scripts: Sequence[str],
    dashboard: str,
    logout: str | None,
) -> str:
    """Return the page of the studies. Everything in it that comes from them is escaped.

    Args:
        page: the part of the list that is shown.
        files: names of the files that a study offers.
        scripts: the scripts that can be submitted.
        dashboard: the dashboard's address.
        logout: where the browser logs out; None if it has not logged in.
    """
    return _render(
        "overview.html",
        page=page,
        scripts=scripts,
        dashboard=dashboard,
        active=any(view.is_active for view in page.studies),
        files=files,
        logout=logout,
    )


def login_page(*, title: str, hint: str, action: str, logout: str | None, wrong: bool) -> str:
    """Return the page that asks for a token.

    Args:
        title: the name of what the user logs in to.
        hint: where the user finds a token.
        action: where the form is sent.
        logout: where the browser logs out; None if it has not logged in.
        wrong: whether a token was sent that is not valid.
    """
    return _render("login.html", title=title, hint=hint, action=action, logout=logout, wrong=wrong)


def _render(template: str, **values: object) -> str:
    return _template(template).render(style=_style(), **values)


@functools.cache
def _style() -> str:
    return _source(_REPORT, "report.css") + _source(_OWN, "service.css")


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _source(_OWN, name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "day_and_time": _day_and_time,
        "in_a_path": functools.partial(quote, safe=""),
        "in_a_shell": shlex.quote,
    }
    return environment.get_template(name)


def _day_and_time(moment: str) -> str:
    """Return a time of the queue, which is in UTC, to the minute."""
    return moment[:16].replace("T", " ") + " UTC"


def _source(package: str, name: str) -> str:
    return importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")
