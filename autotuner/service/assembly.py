"""The service, assembled: queue, executor, HTTP interface and dashboard of one storage."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator

from autotuner.errors import UserError
from autotuner.service.access import BODY_S, LOOPBACK, AccessMiddleware, AccessRules, host_names
from autotuner.service.api import Service, make_app
from autotuner.service.dashboard import LOGIN_PAGE as DASHBOARD_PAGE
from autotuner.service.dashboard import open_dashboard
from autotuner.service.executor import Executor, RunSettings
from autotuner.service.login import Login, LoginPage
from autotuner.service.queue import Queue
from autotuner.service.server import Front, Server, Thread, bind
from autotuner.service.tokens import TokenCache, list_tokens
from autotuner.service.views import Views
from autotuner.study.artifacts import artifact_folder
from autotuner.study.storage import is_shared, open_storage, shown_url
from autotuner.study.workers import Workers

_MOST_STUDIES = 1000
_LAST_PORT = 65535
# the middleware answers first, with the reason
_BODY_S = BODY_S + 2
_LOGIN_PAGE = LoginPage(
    path="/login",
    cookie="autotune_service",
    title="autotune",
    hint="Enter a token from the command autotune token create.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembled:
    """A service that is ready to run. Without an HTTP interface it has no servers."""

    workers: Workers
    executor: Executor
    http: Server | None
    dashboard: Server | None

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the servers by their names."""
        servers = {"service": self.http, "dashboard": self.dashboard}
        return {name: server.port for name, server in servers.items() if server is not None}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Work on the queue, and serve the dashboard, while the context lasts."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.workers)
            stack.enter_context(Thread("executor", self.executor.run, self.executor.stop))
            if self.dashboard is not None:
                stack.enter_context(Thread("dashboard", self.dashboard.run, self.dashboard.stop))
            yield

    def serve(self) -> None:
        """Serve HTTP, or only wait, until Ctrl-C or SIGTERM."""
        if self.http is None:
            threading.Event().wait()
        else:
            self.http.run()


def assemble(
    storage_url: str,
    settings: RunSettings,
    front: Front | None,
    report: Callable[[str], None],
) -> Assembled:
    """Open the storage, listen, and return the service.

    Args:
        storage_url: where queue and studies are.
        settings: how a job is run.
        front: where it listens; None to work on the queue only.
        report: is called with each message for the user.

    Raises:
        UserError: if the storage can't be opened, an address is not available, or a token is
            needed and there is none.
    """
    storage = open_storage(storage_url, create=True)
    queue = Queue(storage)
    http = dashboard = None
    if front is not None:
        http, dashboard = _open_http(storage_url, settings, front, queue)
    machine = os.uname().nodename
    workers = Workers(queue.store.study, shared=is_shared(storage), machine=machine, remark=report)
    executor = Executor(queue, workers, settings, report)
    return Assembled(workers=workers, executor=executor, http=http, dashboard=dashboard)


def _open_http(
    storage_url: str, settings: RunSettings, front: Front, queue: Queue
) -> tuple[Server, Server]:
    """Listen; return the servers of the interface and of the dashboard, which share sessions."""
    needs_token = front.require_token or front.name not in LOOPBACK
    if needs_token and all(token.revoked for token in list_tokens(queue.store)):
        where = f"--storage {shown_url(storage_url)}"
        hint = f"make one first: autotune token create --name me --scope submit {where}"
        raise UserError(f"--host {front.host}: a token is needed, and there is none yet", hint=hint)
    storage = open_storage(storage_url, create=False)
    login = Login(page=_LOGIN_PAGE, find_token=TokenCache(queue.store.attributes).find)
    page = dataclasses.replace(_LOGIN_PAGE, path=DASHBOARD_PAGE.path, title=DASHBOARD_PAGE.title)
    listening = bind(front.host, front.port)
    port: int = listening.getsockname()[1]
    beside = front.dashboard_port
    if beside is None:
        beside = 0 if port == _LAST_PORT else port + 1
    dashboard = open_dashboard(
        storage,
        artifact_folder(settings.home),
        host=front.host,
        port=beside,
        allowed=front.allowed,
        login=dataclasses.replace(login, page=page) if needs_token else None,
        read_only=True,
    )
    service = Service(
        queue=queue,
        views=Views(storage, queue),
        models=settings.models,
        interpreters=settings.interpreters,
        most_studies=_MOST_STUDIES,
        dashboard_port=dashboard.port,
        needs_token=needs_token,
    )
    names = host_names(front.allowed)
    app = AccessMiddleware(
        make_app(service),
        rules=AccessRules(
            hosts=frozenset({*LOOPBACK, front.name, *names}),
            origins=names,
            needs_token=needs_token,
        ),
        login=login,
    )
    return Server(app, listening, body_s=_BODY_S), dashboard
