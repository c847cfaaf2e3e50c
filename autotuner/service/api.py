"""The HTTP interface: submit a study, follow it, cancel it, fetch its files.

FastAPI checks requests and describes the interface at ``/openapi.json``. The middleware in
:mod:`autotuner.service.access` has checked the client before.
"""

import asyncio
import dataclasses
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match, Route

from autotuner import __version__
from autotuner.errors import UserError
from autotuner.service.access import STORAGE_FAILS, host_name, log_refusal
from autotuner.service.page import PAGE_POLICY, overview_page
from autotuner.service.queue import (
    MOST_WAITING,
    BusyStudyError,
    Queue,
    QueueFullError,
    Submission,
)
from autotuner.service.request import StudyRequest, submission_of
from autotuner.service.scripts import ForbiddenScriptError, list_scripts
from autotuner.service.views import MEDIA_TYPES, REPORT, NotMeasuredError, StudyView, Views
from autotuner.study.storage import STORAGE_ERRORS

_LOGGER = logging.getLogger("autotune.service")
_LOOK_S = 1.0
_QUIET_S = 15.0
_MOST_FOLLOWERS = 128
_MOST_OF_A_TOKEN = 32
_LONGEST_FOLLOWED_S = 86400.0

# a study of the command line may have any name
StudyName = Annotated[
    str, InPath(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f/]+$", description="Its name.")
]


class StudyStatus(BaseModel):
    """A study as it is now."""

    name: str
    state: Literal["idle", "queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(ge=0, le=1, description="The part that is done.")
    message: str = Field(description="The latest news, or the result.")
    result: str | None = Field(description="The verdict in a few words.")
    trials: int
    script: str | None
    submitted: str | None
    submitted_by: str | None = Field(description="The name of the token that submitted it.")
    links: dict[str, str]


class Catalogue(BaseModel):
    """The scripts and interpreters for a study request."""

    scripts: list[str]
    interpreters: list[str]


class Problem(BaseModel):
    """Why a request failed."""

    error: str
    hint: str | None = None


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": HTTPStatus(code).phrase}
    for code in (400, 401, 403, 404, 408, 409, 413, 421, 422, 429, 431, 500, 503)
}
_KNOWN: dict[int | str, dict[str, Any]] = {
    200: {"model": StudyStatus, "description": "It is in the queue already"}
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """What the interface needs. ``interpreters``: their paths by the names that clients use.

    ``dashboard_port``: where the dashboard listens, on the same machine. ``needs_token``: for the
    description only; the middleware checks tokens.
    """

    queue: Queue
    views: Views
    models: Path
    interpreters: Mapping[str, str]
    most_studies: int
    dashboard_port: int
    needs_token: bool


def make_app(service: Service) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="autotune",
        version=__version__,
        summary="Find the fastest way to run a TensorFlow model on a CPU, and prove it.",
        docs_url=None,  # its pages come from another host
        redoc_url=None,
        responses=_PROBLEMS,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if service.needs_token else [],
    )
    _handle_errors(app)
    _add_pages(app, service)
    _add_studies(app, service)
    _add_events(app, service)
    for file in MEDIA_TYPES:
        _add_file(app, service, file)
    return app


def _status(view: StudyView) -> StudyStatus:
    root = f"/studies/{quote(view.name, safe='')}"
    links = {file: f"{root}/{file}" for file in ("events", *MEDIA_TYPES)}
    return StudyStatus(**dataclasses.asdict(view), links=links)


def _refuse(request: Request, status: int, error: str, hint: str | None = None) -> JSONResponse:
    log_refusal(request.scope, status, error)
    return JSONResponse(Problem(error=error, hint=hint).model_dump(), status_code=status)


def _methods(app: FastAPI, request: Request) -> set[str]:
    """Return the methods that a path has."""
    routes = [one for one in app.routes if isinstance(one, Route)]
    found = [one for one in routes if one.matches(request.scope)[0] is not Match.NONE]
    return {method for one in found for method in one.methods or ()}


def _handle_errors(app: FastAPI) -> None:
    """Answer every error in one form, without internals."""

    @app.exception_handler(StarletteHTTPException)
    def known(request: Request, error: StarletteHTTPException) -> JSONResponse:
        answer = _refuse(request, error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        if error.status_code == 405:  # Starlette names the methods of one route only
            answer.headers["Allow"] = ", ".join(sorted(_methods(app, request)))
        return answer

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        where = [
            f"{'.'.join(str(part) for part in one['loc'][1:]) or 'body'}: {one['msg']}"
            for one in error.errors()
        ]
        return _refuse(request, 422, "; ".join(where)[:1000])

    @app.exception_handler(UserError)
    def mistaken(request: Request, error: UserError) -> JSONResponse:
        return _refuse(request, 422, error.message, error.hint)

    @app.exception_handler(ForbiddenScriptError)
    def forbidden(request: Request, error: ForbiddenScriptError) -> JSONResponse:
        return _refuse(request, 422, str(error))

    @app.exception_handler(NotMeasuredError)
    def unmeasured(request: Request, error: NotMeasuredError) -> JSONResponse:
        hint = "fetch it after the event end of /studies/NAME/events"
        return _refuse(request, 409, str(error), hint)

    def storage_fails(request: Request, error: Exception) -> JSONResponse:
        _LOGGER.error("the storage fails", exc_info=error)
        return _refuse(request, 503, STORAGE_FAILS)

    for kind in STORAGE_ERRORS:
        app.add_exception_handler(kind, storage_fails)

    @app.exception_handler(Exception)
    def bug(request: Request, error: Exception) -> JSONResponse:
        return _refuse(request, 500, "a bug in autotune: the service's log has it")


def _existing(service: Service, name: str) -> StudyView:
    view = service.views.one(name)
    if view is None:
        raise HTTPException(404, f"there is no study {name}")
    return view


def _sends(media_type: str) -> dict[str, Any]:
    """Return the description of an answer of another media type; its errors are still JSON."""
    return {"response_class": Response, "responses": {200: {"content": {media_type: {}}}}}


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", **_sends("text/html"), summary="The studies, as a page")
    def overview(request: Request) -> HTMLResponse:
        # the name under which the browser has reached the service
        name = host_name(request.headers["host"])
        dashboard = f"http://{name}:{service.dashboard_port}/"
        studies, scripts = service.views.all(), list_scripts(service.models)
        page = overview_page(studies, list(MEDIA_TYPES), scripts, dashboard)
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/health", summary="Whether the service and its storage answer")
    def health() -> dict[str, str]:
        """Read the queue, and write to its storage, which may be full or read-only."""
        service.queue.jobs()
        service.queue.store.set_attribute("checked", round(time.time()))
        return {"status": "ok", "version": __version__}

    @app.get("/scripts", summary="What can be submitted")
    def scripts() -> Catalogue:
        found = list_scripts(service.models)
        return Catalogue(scripts=found, interpreters=sorted(service.interpreters))


def _add_studies(app: FastAPI, service: Service) -> None:
    @app.get("/studies", summary="All studies")
    def studies() -> list[StudyStatus]:
        return [_status(view) for view in service.views.all()]

    @app.post("/studies", status_code=202, responses=_KNOWN, summary="Submit a study")
    def submit(wanted: StudyRequest, request: Request, response: Response) -> StudyStatus:
        """Put a study into the queue, once however often it is sent; a finished study goes on."""
        submission = _checked(wanted, service)
        submitted_by = str(getattr(request.state, "submitted_by", ""))
        try:
            job, new = service.queue.submit(submission, submitted_by)
        except BusyStudyError as error:
            reason = f"study {submission.study} is in the queue with other settings"
            raise HTTPException(409, reason) from error
        except QueueFullError as error:
            raise HTTPException(503, f"{MOST_WAITING} studies wait already") from error
        status = _status(_existing(service, job.submission.study))
        response.status_code = 202 if new else 200
        response.headers["Location"] = f"/studies/{status.name}"
        return status

    @app.get("/studies/{name}", summary="A study")
    def study(name: StudyName) -> StudyStatus:
        return _status(_existing(service, name))

    @app.post("/studies/{name}/cancel", status_code=202, summary="Cancel a study")
    def cancel(name: StudyName) -> StudyStatus:
        """End a study that waits or is being tuned; what was measured is kept."""
        job = service.queue.latest(name)
        if job is None:
            raise HTTPException(404, f"study {name} was not submitted here")
        if not job.is_active:
            raise HTTPException(409, f"study {name} has ended: {job.state.value}")
        service.queue.cancel(job)
        return _status(_existing(service, name))


def _checked(wanted: StudyRequest, service: Service) -> Submission:
    """Return a request as a submission, checked as far as possible before it runs."""
    submission = submission_of(wanted, service.models, service.interpreters)
    studies, most = service.views.all(), service.most_studies
    if len(studies) >= most and not any(study.name == submission.study for study in studies):
        raise HTTPException(503, f"there are {most} studies already: autotune clean")
    return submission


def _add_file(app: FastAPI, service: Service, file: str) -> None:
    sends = _sends(MEDIA_TYPES[file].partition(";")[0])
    sends["responses"][304] = {"description": "As it was"}

    @app.get(f"/studies/{{name}}/{file}", **sends, summary=f"Fetch {file}")
    def fetch(name: StudyName, request: Request) -> Response:
        """Return a file with the recommended configuration. Its ETag changes with its content."""
        _existing(service, name)
        document = service.views.document(name, file)
        headers = {"ETag": document.etag, "Cache-Control": "no-cache"}
        given = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
        if document.etag in given or "*" in given:
            return Response(status_code=304, headers=headers)
        if file == REPORT:  # a page with scripts of its own, which brings its own policy
            headers["Content-Security-Policy"] = "sandbox allow-scripts allow-downloads"
        return Response(document.body, media_type=document.media_type, headers=headers)


def _add_events(app: FastAPI, service: Service) -> None:
    followers = Counter[str]()

    @app.get("/studies/{name}/events", **_sends("text/event-stream"), summary="Follow a study")
    async def events(name: StudyName, request: Request) -> Response:
        """Send an event for every change of the study (server-sent events), ``end`` as the last."""
        view = await asyncio.to_thread(_existing, service, name)
        client = str(getattr(request.state, "client", ""))
        if followers.total() >= _MOST_FOLLOWERS:
            raise HTTPException(503, f"{_MOST_FOLLOWERS} clients follow studies already")
        if client and followers[client] >= _MOST_OF_A_TOKEN:
            raise HTTPException(503, f"{_MOST_OF_A_TOKEN} clients follow studies with this token")
        is_valid: Callable[[], bool] = getattr(request.state, "is_valid", lambda: True)

        def look() -> StudyView | None:
            return service.views.one(name) if is_valid() else None

        async def stream() -> AsyncIterator[str]:
            followers[client] += 1
            try:
                async for event in _follow(look, view):
                    yield event
            finally:
                followers[client] -= 1

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


async def _follow(look: Callable[[], StudyView | None], view: StudyView) -> AsyncIterator[str]:
    sent, quiet_s, until = "", 0.0, time.monotonic() + _LONGEST_FOLLOWED_S
    current: StudyView | None = view
    while current is not None and time.monotonic() < until:
        data = _status(current).model_dump_json()
        if data != sent:
            yield f"event: {'progress' if current.is_active else 'end'}\ndata: {data}\n\n"
            sent, quiet_s = data, 0.0
        elif quiet_s >= _QUIET_S:
            yield ": keep-alive\n\n"
            quiet_s = 0.0
        if not current.is_active:
            return
        await asyncio.sleep(_LOOK_S)
        quiet_s += _LOOK_S
        current = await asyncio.to_thread(look)
    if current is None:
        gone = {"error": "the study was deleted, or the token revoked"}
        yield f"event: end\ndata: {json.dumps(gone)}\n\n"
