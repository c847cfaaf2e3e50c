"""Clients that hold on to what others need: connections, bodies, streams, descriptors."""

import contextlib
import re
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from autotuner.cli.main import main
from autotuner.study.storage import default_url, open_database
from tests.integration.served import Served
from tests.integration.serving import Serving, drip, make_token, serving

# one process runs them all, so that there is one service
pytestmark = pytest.mark.xdist_group("ports")
_PATIENCE_S = 60
_CROWD = 300
_BODY_BYTES = 199 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service runs."""
    return tmp_path_factory.mktemp("ports")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    """Tokens of each kind, and one to be revoked."""
    scopes = {"read": "read", "submit": "submit", "revoked": "read"}
    return {name: make_token(folder, scope) for name, scope in scopes.items()}


@pytest.fixture(scope="module")
def service(folder: Path, tokens: dict[str, str]) -> Iterator[Serving]:
    """A service that needs tokens."""
    assert tokens
    with serving(folder, "--require-token") as service:
        yield service


@pytest.fixture(params=["service", "dashboard"])
def url(request: pytest.FixtureRequest, service: Serving) -> str:
    """The address of one of its two ports."""
    return service.url if request.param == "service" else service.dashboard


def connect(url: str) -> socket.socket:
    """Return a bare connection."""
    port = urlsplit(url).port
    assert port is not None
    return socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)


def is_served(url: str, token: str) -> bool:
    """Return whether a client with a token gets the first page, on a new connection."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{url}/", headers=headers, trust_env=False, timeout=_PATIENCE_S)
    return answer.status_code < 400


def test_a_crowd_of_idle_connections(url: str, tokens: dict[str, str]) -> None:
    """Other clients are served beside connections that send nothing, or a part of a request."""
    with contextlib.ExitStack() as stack:
        for number in range(_CROWD):
            connection = stack.enter_context(connect(url))
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localh")
            if number % 50 == 49:
                assert is_served(url, tokens["read"])
        assert all(is_served(url, tokens["read"]) for _ in range(5))


def test_slow_clients(service: Serving, url: str, tokens: dict[str, str]) -> None:
    """A request that arrives by drops is hung up on, before and after its headers."""
    login = "/login" if url == service.url else "/autotune/login"
    dripping = [connect(url) for _ in range(10)]
    dripping[0].sendall(
        f"POST {login} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n".encode()
    )
    for connection in dripping[1:]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Drop: ")
    gone: set[socket.socket] = set()
    deadline = time.monotonic() + _PATIENCE_S
    while len(gone) < len(dripping):
        assert time.monotonic() < deadline
        assert is_served(url, tokens["read"])
        gone |= {one for one in set(dripping) - gone if drip(one) == b""}
        time.sleep(0.5)
    for connection in dripping:
        connection.close()


@pytest.mark.parametrize("path", ["/studies", "/api/artifacts/1/1", "/login", "/autotune/login"])
def test_a_huge_body_is_not_taken(url: str, path: str) -> None:
    """Without a token it is refused by its head; of the body no more than buffers hold is taken."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {_BODY_BYTES}\r\n\r\n"
    block, taken = b"x" * (1 << 16), 0
    with connect(url) as connection:
        connection.sendall(head.encode())
        connection.setblocking(False)
        answered = b""
        with contextlib.suppress(ConnectionError):
            while taken < _BODY_BYTES:
                readable, writable, _ = select.select([connection], [connection], [], _PATIENCE_S)
                if readable:
                    answered = connection.recv(4096)
                    break
                if writable:
                    taken += connection.send(block)
        assert re.match(rb"HTTP/1.1 (401|413) ", answered) or not answered
    assert taken < 16 << 20


def test_streams_of_a_token(
    service: Serving,
    tokens: dict[str, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One token can't take all streams, and its streams end when it is revoked."""
    (service.models / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.chdir(folder)
    with contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(service.client(one)) for name, one in tokens.items()}
        submitted = clients["submit"].post("/studies", json={"script": "sleeps.py"})
        assert submitted.status_code == 202, submitted.text

        def follow(name: str) -> httpx.Response:
            return stack.enter_context(clients[name].stream("GET", "/studies/sleeps/events"))

        mine = [follow("revoked") for _ in range(33)]
        assert [one.status_code for one in mine] == [200] * 32 + [503]
        other = follow("read")
        assert other.status_code == 200
        assert main(["token", "revoke", tokens["revoked"].split("_")[1]]) == 0
        for one in mine[:32]:
            assert "token revoked" in list(one.iter_lines())[-2]
        lines = other.iter_lines()
        assert next(lines) == "event: progress"
        assert clients["submit"].post("/studies/sleeps/cancel").status_code == 202
        assert "event: end" in lines  # it has gone on until then


def test_streams_beside_idle_connections(service: Serving, tokens: dict[str, str]) -> None:
    """As many of both as there may be leave room for others."""
    (service.models / "waits.py").write_text("import time\ntime.sleep(600)\n")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(service.client(tokens["submit"]))
        assert client.post("/studies", json={"script": "waits.py"}).status_code == 202
        following = (
            "GET /studies/waits/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        )
        streams = []
        for _ in range(4):
            token = make_token(service.folder, "read")
            for _ in range(32):
                streams.append(stack.enter_context(connect(service.url)))
                streams[-1].sendall(f"{following}{token}\r\n\r\n".encode())
        assert all(stream.recv(12) == b"HTTP/1.1 200" for stream in streams)
        for _ in range(_CROWD):
            stack.enter_context(connect(service.url))
        assert all(is_served(service.url, tokens["read"]) for _ in range(5))
        assert client.post("/studies/waits/cancel").status_code == 202


def test_bodies_that_do_not_end(tmp_path: Path) -> None:
    """Ten clients with a token send a part of a body to a dashboard; another one is served."""
    open_database(default_url(tmp_path / ".autotune"), create=True)
    served = Served(tmp_path, "--token", "correct horse")
    try:
        head = (
            "POST /api/studies HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer correct horse"
        )
        with contextlib.ExitStack() as stack:
            for _ in range(10):
                connection = stack.enter_context(connect(served.url))
                connection.sendall(f"{head}\r\nContent-Length: 1000\r\n\r\nx".encode())
            time.sleep(1)
            headers = {"Authorization": "Bearer correct horse"}
            answer = httpx.get(
                f"{served.url}/api/studies", headers=headers, trust_env=False, timeout=20
            )
            assert answer.status_code == 200
    finally:
        served.close()


def test_descriptors_run_out(tmp_path: Path) -> None:
    """Connections wait meanwhile; the log stays short; afterwards they are served."""
    token = make_token(tmp_path, "read")
    with serving(tmp_path, "--require-token") as service:
        assert all(is_served(url, token) for url in (service.url, service.dashboard))
        limit = 40
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        crowd = [connect(url) for url in (service.url, service.dashboard) * 30]
        time.sleep(3)  # it tries again once a second
        for connection in crowd:
            connection.close()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if is_served(service.url, token):
                    break
            assert time.monotonic() < deadline
        assert len(service.log) < 20_000
        assert service.stop() == 0


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_database(tmp_path: Path, replaced: bool) -> None:
    """It is noticed: nothing is accepted that would be lost, and /health says so."""
    with serving(tmp_path) as service, service.client() as client:
        assert client.get("/health").status_code == 200
        database = tmp_path / ".autotune/studies.db"
        database.unlink()
        if replaced:
            database.touch()
        for method, path in (("GET", "/health"), ("POST", "/studies"), ("GET", "/studies")):
            answer = client.request(method, path, json={"script": "train.py"})
            assert answer.status_code == 503, (path, answer.text)
        assert "deleted or replaced" in service.log
