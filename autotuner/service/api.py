"""The HTTP interface: submit a study, follow it, cancel it, fetch what came of it.

FastAPI checks what arrives and describes all of it at ``/openapi.json``; who may ask is looked at
before, in :mod:`autotuner.service.doors`.
"""

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Form, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from autotuner import __version__
from autotuner.errors import UserError
from autotuner.knobs.selection import check_knob_names
from autotuner.service.doors import COOKIE, LOGIN, Sessions
from autotuner.service.jobs import MOST_WAITING, BusyStudyError, Queue, QueueFullError, Submission
from autotuner.service.page import login_page, overview_page
from autotuner.service.scripts import ForbiddenScriptError, find_script, list_scripts
from autotuner.service.tokens import check_token
from autotuner.service.views import REPORT, NotMeasuredError, StudyView, Views
from autotuner.spec.duration import parse_duration

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
_LOOK_S = 1.0
_QUIET_S = 15.0
_MOST_FOLLOWERS = 32
_LONGEST_FOLLOWED_S = 86400.0
_CSP = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"

StudyName = Annotated[str, InPath(pattern=_NAME, description="A study's name.")]
File = Literal["best.env", "best.py", "best.json"]


class Asked(BaseModel):
    """A study to be tuned. What is left out is as ``autotune run`` does it by itself."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"script": "train.py"}]}
    )

    script: str = Field(max_length=500, description="A path relative to the service's models.")
    study: str | None = Field(None, pattern=_NAME, description="Its name; else the script's.")
    arguments: list[Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]] = Field(
        default=[], max_length=64
    )
    python: str | None = Field(None, max_length=500, description="One of the listed interpreters.")
    effort: Literal["fast", "balanced", "thorough"] | None = None
    objective: Literal["throughput", "latency-p50", "latency-p99", "cpu-efficiency"] | None = None
    knobs: list[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]] = Field(
        default=[], max_length=64
    )
    trials: int | None = Field(None, ge=1, le=10_000)
    budget: str | None = Field(None, pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h)?$")


class Told(BaseModel):
    """A study as it is now."""

    name: str
    state: Literal["idle", "queued", "running", "done", "failed", "cancelled"]
    part: float = Field(ge=0, le=1, description="Which part of it is done.")
    said: str = Field(description="The latest news, or how it ended.")
    result: str | None = Field(description="The verdict in a few words.")
    trials: int
    script: str | None
    submitted: str | None
    by: str | None = Field(description="The name of the token that has submitted it.")
    links: dict[str, str]


class Problem(BaseModel):
    """Why something was not done."""

    error: str
    hint: str | None = None


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": HTTPStatus(code).phrase}
    for code in (400, 401, 403, 404, 408, 409, 413, 421, 422, 429, 503)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """What the interface works with. ``interpreters``: by the names under which they are asked for.

    ``dashboard``: the URL of the dashboard, None without one.
    """

    jobs: Queue
    views: Views
    models: Path
    interpreters: Mapping[str, str]
    most_studies: int
    dashboard: str | None
    sessions: Sessions


def make_app(service: Service) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="autotune",
        version=__version__,
        summary="Find the fastest way to run a TensorFlow model on a CPU, and prove it.",
        docs_url=None,  # its pages come from another host
        redoc_url=None,
        responses=_PROBLEMS,
    )
    _handle_errors(app)
    _add_pages(app, service)
    _add_studies(app, service)
    _add_events(app, service)  # before the files, whose path would take it in
    _add_files(app, service)
    return app


def _told(view: StudyView) -> Told:
    root = f"/studies/{view.name}"
    files = ("best.env", "best.py", "best.json", REPORT)
    links = {"events": f"{root}/events", **{file: f"{root}/{file}" for file in files}}
    return Told(**dataclasses.asdict(view), links=links)  # type: ignore[arg-type]


def _problem(status: int, error: str, hint: str | None = None) -> JSONResponse:
    return JSONResponse(Problem(error=error, hint=hint).model_dump(), status_code=status)


def _handle_errors(app: FastAPI) -> None:
    """Answer every error in one form; what went wrong inside stays inside."""

    @app.exception_handler(StarletteHTTPException)
    def known(request: Request, error: StarletteHTTPException) -> JSONResponse:
        answer = _problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        where = [
            f"{'.'.join(str(part) for part in one['loc'][1:]) or 'body'}: {one['msg']}"
            for one in error.errors()
        ]
        return _problem(422, "; ".join(where)[:1000])

    @app.exception_handler(UserError)
    def mistaken(request: Request, error: UserError) -> JSONResponse:
        return _problem(422, error.message, error.hint)

    @app.exception_handler(ForbiddenScriptError)
    def forbidden(request: Request, error: ForbiddenScriptError) -> JSONResponse:
        return _problem(422, str(error))

    @app.exception_handler(NotMeasuredError)
    def unmeasured(request: Request, error: NotMeasuredError) -> JSONResponse:
        return _problem(409, str(error), "ask again when it is done; /studies/NAME/events tells")


def _existing(service: Service, name: str) -> StudyView:
    view = service.views.one(name)
    if view is None:
        raise HTTPException(404, f"there is no study {name}")
    return view


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", response_class=HTMLResponse, summary="The studies, as a page")
    def overview() -> HTMLResponse:
        page = overview_page(service.views.all(), list_scripts(service.models), service.dashboard)
        return HTMLResponse(page, headers={"Content-Security-Policy": _CSP})

    @app.get(LOGIN, response_class=HTMLResponse, include_in_schema=False)
    def ask_to_log_in() -> HTMLResponse:
        return HTMLResponse(login_page(wrong=False), headers={"Content-Security-Policy": _CSP})

    @app.post(LOGIN, response_class=HTMLResponse, include_in_schema=False)
    def log_in(token: Annotated[str, Form(max_length=200)]) -> Response:
        if check_token(service.jobs.study.user_attrs, token.strip()) is None:
            headers = {"Content-Security-Policy": _CSP}
            return HTMLResponse(login_page(wrong=True), status_code=401, headers=headers)
        answer = RedirectResponse("/", status_code=303)
        session = service.sessions.begin(token.strip())
        answer.set_cookie(COOKIE, session, httponly=True, samesite="strict")
        return answer

    @app.get("/health", summary="Whether the service and its storage answer")
    def health() -> dict[str, str]:
        service.jobs.jobs()
        return {"status": "ok", "version": __version__}

    @app.get("/scripts", summary="What can be submitted")
    def scripts() -> dict[str, list[str]]:
        found = list_scripts(service.models)
        return {"scripts": found, "interpreters": sorted(service.interpreters)}


def _add_studies(app: FastAPI, service: Service) -> None:
    @app.get("/studies", summary="All studies")
    def studies() -> list[Told]:
        return [_told(view) for view in service.views.all()]

    @app.post("/studies", status_code=202, summary="Submit a study")
    def submit(asked: Asked, request: Request, response: Response) -> Told:
        """Put a study into the queue. The same submission twice is one; a finished study goes on."""
        submission = _checked(asked, service)
        by = str(getattr(request.state, "by", ""))
        try:
            job, new = service.jobs.submit(submission, by)
        except BusyStudyError as error:
            said = f"study {submission.study} is in the queue with other settings"
            raise HTTPException(409, said) from error
        except QueueFullError as error:
            raise HTTPException(503, f"{MOST_WAITING} studies wait already") from error
        response.status_code = 202 if new else 200
        response.headers["Location"] = f"/studies/{job.submission.study}"
        return _told(_existing(service, job.submission.study))

    @app.get("/studies/{name}", summary="A study")
    def study(name: StudyName) -> Told:
        return _told(_existing(service, name))

    @app.post("/studies/{name}/cancel", status_code=202, summary="Cancel a study")
    def cancel(name: StudyName) -> Told:
        """End a study that waits or is being tuned; what was measured is kept."""
        job = service.jobs.latest(name)
        if job is None:
            raise HTTPException(404, f"study {name} was not submitted here")
        if not job.is_active:
            raise HTTPException(409, f"study {name} has ended: {job.state.value}")
        service.jobs.cancel(job)
        return _told(_existing(service, name))


def _checked(asked: Asked, service: Service) -> Submission:
    """Return what was asked for, checked as far as can be before it runs."""
    script = find_script(service.models, asked.script)
    if asked.python is not None and asked.python not in service.interpreters:
        known = ", ".join(sorted(service.interpreters)) or "none but the service's own"
        raise HTTPException(422, f"python: not one of the service's interpreters: {known}")
    check_knob_names(tuple(asked.knobs))
    if asked.budget is not None:
        parse_duration(asked.budget, where="budget")
    name = asked.study or _name_for(script)
    views = service.views
    if views.one(name) is None and len(views.all()) >= service.most_studies:
        raise HTTPException(
            503, f"there are {service.most_studies} studies already: autotune clean"
        )
    python = None if asked.python is None else service.interpreters[asked.python]
    return Submission(
        study=name,
        script=asked.script,
        arguments=tuple(asked.arguments),
        python=python,
        effort=asked.effort,
        objective=asked.objective,
        knobs=tuple(asked.knobs),
        trials=asked.trials,
        budget=asked.budget,
    )


def _name_for(script: Path) -> str:
    """Return a study's name made of a script's."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in script.stem)
    return f"study-{safe}"[:80] if not safe or not safe[0].isalnum() else safe[:80]


def _add_files(app: FastAPI, service: Service) -> None:
    def answer(name: str, file: str, request: Request) -> Response:
        _existing(service, name)
        document = service.views.document(name, file)
        headers = {"ETag": document.etag, "Cache-Control": "no-cache"}
        given = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
        if document.etag in given or "*" in given:
            return Response(status_code=304, headers=headers)
        if file == REPORT:  # a page with scripts of its own, which set their own bounds
            headers["Content-Security-Policy"] = "sandbox allow-scripts allow-downloads"
        return Response(document.body, media_type=document.media_type, headers=headers)

    not_modified: dict[int | str, dict[str, Any]] = {304: {"description": "As it was"}}

    @app.get(
        "/studies/{name}/report.html",
        response_class=HTMLResponse,
        responses=not_modified,
        summary="The report",
    )
    def report(name: StudyName, request: Request) -> Response:
        return answer(name, REPORT, request)

    @app.get(
        "/studies/{name}/{file}",
        response_class=Response,
        responses={**not_modified, 200: {"content": {"text/plain": {}, "application/json": {}}}},
        summary="What to deploy",
    )
    def best(name: StudyName, file: File, request: Request) -> Response:
        """Return the recommended configuration. Its ETag changes only when it does."""
        return answer(name, file, request)


def _add_events(app: FastAPI, service: Service) -> None:
    followers = 0

    @app.get(
        "/studies/{name}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
        summary="Follow a study",
    )
    async def events(name: StudyName) -> Response:
        """Send an event whenever the study has got on (server-sent events), ``end`` as the last."""
        nonlocal followers
        view = await asyncio.to_thread(_existing, service, name)
        if followers >= _MOST_FOLLOWERS:
            raise HTTPException(503, f"{_MOST_FOLLOWERS} clients follow studies already")

        async def stream() -> AsyncIterator[str]:
            nonlocal followers
            followers += 1
            try:
                async for event in _follow(lambda: service.views.one(name), view):
                    yield event
            finally:
                followers -= 1

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


async def _follow(look: Callable[[], StudyView | None], view: StudyView) -> AsyncIterator[str]:
    told, quiet_s, until = "", 0.0, time.monotonic() + _LONGEST_FOLLOWED_S
    current: StudyView | None = view
    while current is not None and time.monotonic() < until:
        data = _told(current).model_dump_json()
        active = current.state in ("queued", "running")
        if data != told or not active:
            yield f"event: {'progress' if active else 'end'}\ndata: {data}\n\n"
            told, quiet_s = data, 0.0
        elif quiet_s >= _QUIET_S:
            yield ": still there\n\n"
            quiet_s = 0.0
        if not active:
            return
        await asyncio.sleep(_LOOK_S)
        quiet_s += _LOOK_S
        current = await asyncio.to_thread(look)
    yield f"event: end\ndata: {json.dumps({'error': 'the study is gone'})}\n\n"
