"""What the service refuses, and that it says nothing and breaks nothing meanwhile."""

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from autotuner.cli.main import main
from autotuner.service.doors import MOST_BODY_BYTES, Limiter
from autotuner.service.jobs import Submission
from autotuner.service.scripts import ForbiddenScriptError, find_script, list_scripts
from autotuner.service.workshop import command_of, environment_of_runs
from tests.integration.serving import Serving, serving


def make_token(folder: Path, *scopes: str) -> str:
    """Return a new token, made by the command."""
    options = [word for scope in scopes for word in ("--scope", scope)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "autotuner",
            "token",
            "create",
            "--name",
            "-".join(scopes),
            *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service runs."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    """Tokens of each kind."""
    return {
        "read": make_token(folder, "read"),
        "submit": make_token(folder, "submit"),
        "revoked": make_token(folder, "submit"),
    }


@pytest.fixture(scope="module")
def service(folder: Path, tokens: dict[str, str]) -> Iterator[Serving]:
    """A service that asks for tokens."""
    with serving(folder, "--require-token", "--interpreter", "this=python3") as service:
        yield service


@pytest.fixture(autouse=True)
def full_bucket(service: Serving) -> None:
    """Wait until the service takes requests again, after a test that has made very many."""
    with service.client() as client:
        while client.get("/login").status_code == 429:
            time.sleep(1)


def test_tokens(
    service: Serving,
    tokens: dict[str, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Missing, wrong, revoked, for reading only; every refusal is logged, no token is."""
    monkeypatch.chdir(folder)
    key = tokens["revoked"].split("_")[1]
    assert main(["token", "revoke", key]) == 0
    assert main(["token", "revoke", "nobody"]) == 1
    assert main(["token", "list"]) == 0
    said = capsys.readouterr()
    assert "revoked" in said.out
    assert "there is no token" in said.err
    body = {"script": "none.py"}
    for token, read, write in (
        (None, 401, 401),
        ("wrong", 401, 401),
        (tokens["read"][:-1] + "A", 401, 401),
        (tokens["revoked"], 401, 401),
        (tokens["read"], 200, 403),
        (tokens["submit"], 200, 422),
    ):
        with service.client(token) as client:
            assert client.get("/studies").status_code == read, token
            assert client.post("/studies", json=body).status_code == write, token
            assert client.post("/studies/x/cancel").status_code in (write, 404), token
    assert "401 the token is not valid" in service.said
    assert "has not the scope submit" in service.said
    assert not any(token in service.said for token in tokens.values())
    database = (folder / ".autotune" / "studies.db").read_bytes()
    assert not any(token.split("_")[2].encode() in database for token in tokens.values())


def test_a_browser_logs_in(service: Serving, tokens: dict[str, str]) -> None:
    """A page leads to the login; the cookie is not readable by scripts, and is no token."""
    with service.client() as client:
        asked = client.get("/", headers={"Accept": "text/html"})
        assert (asked.status_code, asked.headers["location"]) == (303, "/login")
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
        done = client.post("/login", data={"token": tokens["read"]})
        assert done.status_code == 303
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert tokens["read"].split("_")[2] not in cookie
        page = client.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.post("/studies", json={"script": "train.py"}).status_code == 403


def test_hosts_and_origins(service: Serving, tokens: dict[str, str]) -> None:
    """A foreign name, and a page of another site, are refused before anything else."""
    with service.client(tokens["submit"]) as client:
        for host in ("evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80"):
            assert client.get("/studies", headers={"Host": host}).status_code in (400, 421), host
        assert client.get("/studies", headers={"Host": "localhost"}).status_code == 200
        for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
            answer = client.post("/studies", json={}, headers={"Origin": origin})
            assert answer.status_code == 403, origin
        answer = client.post("/studies", json={}, headers={"Origin": service.url})
        assert answer.status_code == 422
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "asked",
    [
        "../outside.py",
        "sub/../../outside.py",
        "/etc/passwd",
        "link.py",
        "linked/outside.py",
        "none.py",
        "sub",
        "notes.txt",
        "",
        "a\x00b.py",
        "a\nb.py",
        "x" * 600,
        "..\\outside.py",
        "loop/loop.py",
    ],
)
def test_paths(tmp_path: Path, asked: str) -> None:
    """Nothing outside of the folder, through links or not; nothing that is no script."""
    models = tmp_path / "models"
    (models / "sub").mkdir(parents=True)
    (tmp_path / "outside.py").touch()
    (models / "sub" / "train.py").touch()
    (models / "notes.txt").touch()
    (models / "link.py").symlink_to(tmp_path / "outside.py")
    (models / "linked").symlink_to(tmp_path)
    (models / "loop").symlink_to(models / "loop")
    with pytest.raises(ForbiddenScriptError):
        find_script(models, asked)
    assert find_script(models, "sub/train.py") == (models / "sub" / "train.py").resolve()
    assert list_scripts(models) == ["sub/train.py"]


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    """And so is the folder itself, if it is a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "v2.py").touch()
    (tmp_path / "real" / "current.py").symlink_to("v2.py")
    (tmp_path / "models").symlink_to("real")
    found = find_script(tmp_path / "models", "current.py")
    assert found == tmp_path.resolve() / "real" / "v2.py"


def test_arguments_are_no_options_and_no_shell(tmp_path: Path) -> None:
    """Whatever is submitted stands after --, or is glued to the option that it belongs to."""
    evil = ("--storage", "sqlite:///x", "; touch hacked", "$(touch hacked)", "--", "--model=/x")
    asked = Submission(
        study="-x", script="train.py", arguments=evil, knobs=("--json",), effort="-h"
    )
    argv = command_of(asked, tmp_path / "train.py", ["--run-as=nobody"])
    at = argv.index("--")
    assert argv[at + 1 :] == list(evil)
    assert argv[4:at] == [
        f"--model={tmp_path}/train.py",
        "--study=-x",
        "--json",
        "--wait",
        "--effort=-h",
        "--knobs=--json",
        "--run-as=nobody",
    ]


def test_the_environment_of_runs_is_built() -> None:
    """Nothing of the service's comes through that is not asked for."""
    own = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "x",
        "LC_ALL": "C",
        "MINE": "1",
        "LD_PRELOAD": "y",
    }
    found = environment_of_runs(own, ["MINE"], "postgresql://u:p@h/d")
    assert found == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "MINE": "1",
        "AUTOTUNE_STORAGE": "postgresql://u:p@h/d",
        "PYTHONUNBUFFERED": "1",
    }


def test_what_may_be_asked_for(service: Serving, tokens: dict[str, str]) -> None:
    """Interpreters and knobs that are known, names that are names, and nothing else."""
    with service.client(tokens["submit"]) as client:
        for change in (
            {"python": "/bin/sh"},
            {"study": "../x"},
            {"study": "-x"},
            {"study": ""},
            {"knobs": ["none"]},
            {"knobs": ["--json"]},
            {"effort": "all"},
            {"trials": 0},
            {"trials": 10**9},
            {"budget": "1; rm -rf /"},
            {"budget": "0s"},
            {"arguments": ["x" * 2000]},
            {"arguments": ["a\x00b"]},
            {"arguments": ["x"] * 100},
            {"unknown": 1},
            {"script": "../train.py"},
        ):
            answer = client.post("/studies", json={"script": "train.py", **change})
            assert answer.status_code == 422, (change, answer.text)
            assert set(answer.json()) == {"error", "hint"}
        for content in (b"", b"[", b"null", b"[]", b'"x"', b"\xff\xfe"):
            answer = client.post(
                "/studies", content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code in (400, 422), content
        assert client.get("/studies/..%2f..%2fetc/best.env").status_code in (404, 422)
        assert client.get("/studies/autotune-queue").status_code == 404
        assert client.get("/studies/train/best.sh").status_code == 422
        assert client.get("/nothing").status_code == 404
        assert client.delete("/studies").status_code == 405


def test_huge_bodies(service: Serving, tokens: dict[str, str]) -> None:
    """Refused by what they say of themselves, and by what arrives."""
    with service.client(tokens["submit"]) as client:
        answer = client.post("/studies", content=b"x" * (MOST_BODY_BYTES + 1))
        assert answer.status_code == 413

        def endless() -> Iterator[bytes]:
            for _ in range(1000):
                yield b"x" * 4096

        try:
            assert client.post("/studies", content=endless()).status_code == 413
        except httpx.HTTPError as error:  # it has hung up in the middle of it
            assert isinstance(error, httpx.WriteError | httpx.ReadError | httpx.RemoteProtocolError)
    assert "413 a body of more than" in service.said


def test_slow_clients(service: Serving, tokens: dict[str, str]) -> None:
    """A client that sends its headers or its body by drops is hung up on; others are served."""
    slow = [service.connect() for _ in range(20)]
    for connection in slow:
        connection.sendall(b"GET /studies HTTP/1.1\r\nHost: localhost\r\nX-Drop: ")
    body = service.connect()
    body.sendall(
        b"POST /studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        + f"Authorization: Bearer {tokens['submit']}\r\n\r\nx".encode()
    )
    with service.client(tokens["read"]) as client:
        assert client.get("/studies").status_code == 200
    assert b" 408 " in _rest(body)
    for connection in slow:
        assert _rest(connection) == b""


def _rest(connection: socket.socket) -> bytes:
    with connection:
        found = b""
        while chunk := connection.recv(4096):
            found += chunk
        return found


def test_ten_thousand_requests(service: Serving, tokens: dict[str, str]) -> None:
    """Most are refused, none is answered by an error of ours, and the service goes on."""

    def ask(count: int) -> Counter[int]:
        with service.client(tokens["read"]) as client:
            return Counter(client.get("/studies").status_code for _ in range(count))

    with ThreadPoolExecutor(10) as pool:
        codes = sum(pool.map(ask, [1000] * 10), Counter())
    assert sum(codes.values()) == 10_000
    assert set(codes) == {200, 429}
    assert codes[429] > codes[200]
    assert service.process.poll() is None


def test_the_limiter() -> None:
    """A minute's requests at once, then as many as time brings; each address by itself."""
    now = 0.0
    limiter = Limiter(60, lambda: now)
    assert [limiter.allows("a") for _ in range(61)] == [True] * 60 + [False]
    assert limiter.allows("b")
    now = 1.5
    assert [limiter.allows("a") for _ in range(2)] == [True, False]


def test_no_trace_reaches_a_client(service: Serving, tokens: dict[str, str]) -> None:
    """Odd paths are answered by an error, and nothing of what is inside."""
    with service.client(tokens["read"]) as client:
        answers = [client.get("/studies/%00"), client.get("/studies/" + "x" * 300)]
    for answer in answers:
        assert answer.status_code in (404, 422)
        assert "Traceback" not in answer.text
        assert "error" in json.loads(answer.text)


def test_what_goes_wrong_inside_stays_inside(tmp_path: Path) -> None:
    """A database that is gone: an error without a word of where it was."""
    with serving(tmp_path) as service:
        (tmp_path / ".autotune" / "studies.db").write_bytes(b"no database")
        with service.client() as client:
            answer = client.get("/studies")
        assert answer.status_code == 500
        assert "Traceback" not in answer.text
        assert str(tmp_path) not in answer.text


def test_any_request_that_fits_the_schema(service: Serving, tokens: dict[str, str]) -> None:
    """Schemathesis makes up requests from the description: none is answered by a server error."""
    schemathesis = pytest.importorskip("schemathesis")
    assert schemathesis is not None
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {tokens['submit']}"),
        *("--checks", "not_a_server_error,content_type_conformance,response_schema_conformance"),
        *("--exclude-path-regex", "events$", "--max-examples", "20", "--rate-limit", "500/m"),
        *("--seed", "1", "--no-color"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
