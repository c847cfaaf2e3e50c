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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote, unquote_to_bytes

from anyio import to_thread
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match, Route

from autotuner import __version__
from autotuner.errors import UserError
from autotuner.service.access import (
    STORAGE_FAILS,
    App,
    HTTPScope,
    Receive,
    Send,
    host_name,
    log_refusal,
)
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
_ON_A_PAGE = 50
_THREADS = 4

# a study that Optuna or another version of autotune has made may have any name
StudyName = Annotated[
    str,
    InPath(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f/]+$", description="Its name."),
    AfterValidator(unquote),
]
Limit = Annotated[int, Query(ge=1, le=500, description="The number of studies.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="The number of studies before them.")]


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


def make_app(service: Service) -> App:
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
    return _with_few_threads(_with_slashes_in_names(app))


def _path_of(study: str) -> str:
    return f"/studies/{quote(study, safe='')}"


def _status(view: StudyView) -> StudyStatus:
    links = {file: f"{_path_of(view.name)}/{file}" for file in ("events", *MEDIA_TYPES)}
    return StudyStatus(**vars(view), links=links)


def _refuse(request: Request, status: int, error: str, hint: str | None = None) -> JSONResponse:
    log_refusal(request.scope, status, error)
    return JSONResponse(Problem(error=error, hint=hint).model_dump(), status_code=status)


def _with_slashes_in_names(app: FastAPI) -> App:
    """Return an application whose paths keep their slashes and per cents encoded.

    A server decodes a path before it is taken apart, which would cut a name with a slash.
    """

    async def call(scope: HTTPScope, receive: Receive, send: Send) -> None:
        if b"%" in scope.get("raw_path", b""):
            parts = [unquote_to_bytes(part) for part in scope["raw_path"].split(b"/")]
            kept = (part.replace(b"%", b"%25").replace(b"/", b"%2F") for part in parts)
            scope = {**scope, "path": b"/".join(kept).decode("utf-8", "replace")}
        await app(scope, receive, send)

    return call


def _with_few_threads(app: App) -> App:
    """Return an application whose handlers run in a few threads.

    Python runs one of them at a time. With the usual forty, fifty clients that poll wait three
    times as long for the slowest answers.
    """

    async def call(scope: HTTPScope, receive: Receive, send: Send) -> None:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        await app(scope, receive, send)

    return call


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
        hint = None
        if request.method == "POST" and "json" not in request.headers.get("content-type", ""):
            hint = "send JSON, with the header Content-Type: application/json"
        return _refuse(request, 422, "; ".join(where)[:1000], hint)

    @app.exception_handler(UserError)
    def mistaken(request: Request, error: UserError) -> JSONResponse:
        return _refuse(request, 422, error.message, error.hint)

    @app.exception_handler(ForbiddenScriptError)
    def forbidden(request: Request, error: ForbiddenScriptError) -> JSONResponse:
        return _refuse(request, 422, str(error))

    @app.exception_handler(NotMeasuredError)
    def unmeasured(request: Request, error: NotMeasuredError) -> JSONResponse:
        return _refuse(request, 409, str(error), error.hint)

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
        raise _no_study(name)
    return view


def _no_study(name: str) -> HTTPException:
    return HTTPException(404, f"there is no study {name}")


def _sends(media_type: str) -> dict[str, Any]:
    """Return the description of an answer of another media type; its errors are still JSON."""
    return {"response_class": Response, "responses": {200: {"content": {media_type: {}}}}}


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", **_sends("text/html"), summary="The studies, as a page")
    def overview(request: Request, offset: Offset = 0) -> HTMLResponse:
        # the name under which the browser has reached the service
        name = host_name(request.headers["host"])
        page = overview_page(
            service.views.page(limit=_ON_A_PAGE, offset=offset),
            files=list(MEDIA_TYPES),
            scripts=list_scripts(service.models),
            dashboard=f"http://{name}:{service.dashboard_port}/",
            logout=getattr(request.state, "logout", None),
        )
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
    @app.get("/studies", summary="The studies: what waits or runs, then the latest")
    def studies(response: Response, limit: Limit = 100, offset: Offset = 0) -> list[StudyStatus]:
        """Return a part of the list; the header Link has the address of the next one."""
        page = service.views.page(limit=limit, offset=offset)
        if page.after is not None:
            response.headers["Link"] = f'</studies?limit={limit}&offset={page.after}>; rel="next"'
        return [_status(view) for view in page.studies]

    @app.post("/studies", status_code=202, responses=_KNOWN, summary="Submit a study")
    def submit(wanted: StudyRequest, request: Request, response: Response) -> StudyStatus:
        """Put a study into the queue, once however often it is sent; a finished study goes on."""
        submission = _checked(wanted, service)
        submitted_by = str(getattr(request.state, "submitted_by", ""))
        try:
            job, new = service.queue.submit(submission, submitted_by)
        except BusyStudyError as error:
            reason = f"study {submission.study} is in the queue with another script or settings"
            raise HTTPException(409, reason) from error
        except QueueFullError as error:
            raise HTTPException(503, f"{MOST_WAITING} studies wait already") from error
        status = _status(_existing(service, job.submission.study))
        response.status_code = 202 if new else 200
        response.headers["Location"] = _path_of(status.name)
        return status

    @app.get("/studies/{name}", summary="A study")
    def study(name: StudyName) -> StudyStatus:
        return _status(_existing(service, name))

    @app.post("/studies/{name}/cancel", status_code=202, summary="Cancel a study")
    def cancel(name: StudyName) -> StudyStatus:
        """End a study that waits or is being tuned; what was measured is kept."""
        job = service.queue.latest().get(name)
        if job is None:
            raise HTTPException(404, f"study {name} was not submitted here")
        if not job.is_active:
            raise HTTPException(409, f"study {name} has ended: {job.state.value}")
        service.queue.cancel(job)
        return _status(_existing(service, name))


def _checked(wanted: StudyRequest, service: Service) -> Submission:
    """Return a request as a submission, checked as far as possible before it runs."""
    submission = submission_of(wanted, service.models, service.interpreters)
    most = service.most_studies
    if service.views.count() >= most and service.views.one(submission.study) is None:
        raise HTTPException(503, f"there are {most} studies already: autotune clean")
    return submission


def _add_file(app: FastAPI, service: Service, file: str) -> None:
    sends = _sends(MEDIA_TYPES[file].partition(";")[0])
    sends["responses"][304] = {"description": "As it was"}

    @app.get(f"/studies/{{name}}/{file}", **sends, summary=f"Fetch {file}")
    def fetch(name: StudyName, request: Request) -> Response:
        """Return a file with the recommended configuration. Its ETag changes with its content."""
        version = service.views.version(name, file)
        if version is None:
            raise _no_study(name)
        headers = {"ETag": version.etag, "Cache-Control": "no-cache"}
        # a proxy that compresses makes an ETag weak
        known = request.headers.get("if-none-match", "").split(",")
        given = [one.strip().removeprefix("W/") for one in known]
        if version.etag in given or "*" in given:
            return Response(status_code=304, headers=headers)
        document = service.views.document(version)
        if file == REPORT:  # a page with scripts of its own, which brings its own policy
            headers["Content-Security-Policy"] = "sandbox allow-scripts allow-downloads"
        return Response(document.body, media_type=document.media_type, headers=headers)


def _add_events(app: FastAPI, service: Service) -> None:
    followers = Counter[str]()

    @app.get("/studies/{name}/events", **_sends("text/event-stream"), summary="Follow a study")
    async def events(name: StudyName, request: Request) -> Response:
        """Send an event for every change of the study (server-sent events), ``end`` as the last."""
        view = await to_thread.run_sync(_existing, service, name)
        client = str(getattr(request.state, "client", ""))
        if followers.total() >= _MOST_FOLLOWERS:
            raise HTTPException(503, f"{_MOST_FOLLOWERS} clients follow studies already")
        if client and followers[client] >= _MOST_OF_A_TOKEN:
            raise HTTPException(503, f"{_MOST_OF_A_TOKEN} clients follow studies with this token")
        is_valid: Callable[[], Awaitable[bool]] = getattr(request.state, "is_valid", _always)

        async def look() -> StudyView | None:
            return await to_thread.run_sync(service.views.one, name) if await is_valid() else None

        def leave() -> None:
            followers[client] -= 1

        followers[client] += 1
        return _Stream(_follow(look, view), leave)


class _Stream(StreamingResponse):
    """Server-sent events. ``leave`` is called at their end, however the client has left."""

    def __init__(self, events: AsyncIterator[str], leave: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._leave = leave

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


async def _always() -> bool:
    return True


async def _follow(
    look: Callable[[], Awaitable[StudyView | None]], view: StudyView
) -> AsyncIterator[str]:
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
        current = await look()
    if current is None:
        gone = {"error": "the study was deleted, or the token revoked"}
        yield f"event: end\ndata: {json.dumps(gone)}\n\n"
