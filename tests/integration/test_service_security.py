"""What the service refuses, and that it reveals nothing and stays up meanwhile."""

import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import re
import socket
import sqlite3
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
from autotuner.options.names import QUEUE
from autotuner.options.study_spec import StudySpec
from autotuner.service.access import MOST_BODY_BYTES, MOST_HEADER_BYTES
from autotuner.service.executor import command_of, environment_of_runs
from autotuner.service.queue import Submission
from autotuner.service.scripts import ForbiddenScriptError, find_script, list_scripts
from tests.integration.serving import Serving, drip, make_token, serving

# one process runs them all, so that there is one service
pytestmark = pytest.mark.xdist_group("service security")
_PATIENCE_S = 60


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
    """A service that needs tokens; no test submits a script to it that runs."""
    with serving(
        folder,
        "--require-token",
        "--interpreter",
        "this=python3",
        "--allow-host",
        "Tuner.example:443",
    ) as service:
        yield service


def refusals(service: Serving) -> Counter[str]:
    """Return how many refusals were logged of each kind: status and reason."""
    lines = re.findall(r"refused \S+ .*? of 127\.0\.0\.1: (\d+ .*)$", service.log, re.MULTILINE)
    return Counter(lines)


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
    with service.client(tokens["revoked"]) as client:
        assert client.get("/studies").status_code == 200
    assert main(["token", "revoke", key]) == 0
    assert main(["token", "revoke", "nobody"]) == 1
    assert main(["token", "list"]) == 0
    output = capsys.readouterr()
    assert re.search(rf"{key} +for submit +read, submit .* revoked", output.out)
    assert "there is no token" in output.err
    assert not any(token.split("_", 2)[2] in output.out for token in tokens.values())
    before = refusals(service)
    body = {"script": "none.py"}
    expected: Counter[str] = Counter()
    for token, read, write in (
        (None, 401, 401),
        ("wrong", 401, 401),
        (tokens["read"][:-1] + "AB"[tokens["read"].endswith("A")], 401, 401),
        (tokens["submit"].replace("_", "-"), 401, 401),
        (tokens["read"].split("_", 2)[2], 401, 401),
        (tokens["revoked"], 401, 401),
        (tokens["read"], 200, 403),
        (tokens["submit"], 200, 422),
    ):
        with service.client(token) as client:
            assert client.get("/studies").status_code == read, token
            assert client.get("/studies/x/events").status_code in (read, 404), token
            assert client.get("/openapi.json").status_code == read, token
            refused = client.post("/studies", json=body)
            assert refused.status_code == write, token
            assert client.post("/studies/x/cancel").status_code in (write, 404), token
            if write == 401:
                assert refused.headers["www-authenticate"] == "Bearer"
            expected[str(read)] += 3
            expected[str(write)] += 2
    basic = httpx.BasicAuth("me", tokens["submit"])
    assert httpx.get(f"{service.url}/studies", auth=basic, trust_env=False).status_code == 401
    logged = refusals(service) - before
    assert sum(n for why, n in logged.items() if why.startswith("401 ")) == expected["401"] + 1
    assert logged[f"403 token {tokens['read'].split('_')[1]} does not have the scope submit"] == 2
    assert logged["422 script: there is no such file"] == 1
    assert logged["401 the token is not valid"] > 10
    assert not any(token.split("_", 2)[2] in service.log for token in tokens.values())


def test_a_token_s_name_is_no_markup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list shows it as it is."""
    monkeypatch.chdir(tmp_path)
    for name in ("[/x]", "[link=http://evil]x[/link]"):
        assert main(["token", "create", "--name", name]) == 0
    assert main(["token", "list"]) == 0
    output = capsys.readouterr().out
    assert "[/x]" in output
    assert "[link=http://evil]" in output


def test_tokens_are_kept_as_hashes(folder: Path, tokens: dict[str, str]) -> None:
    """What is in the database is the SHA-256 of each secret, and nothing of the secret."""
    files = sorted((folder / ".autotune").glob("studies.db*"))
    everything = b"".join(file.read_bytes() for file in files)
    for token in tokens.values():
        secret = token.split("_", 2)[2].encode()
        assert hashlib.sha256(secret).hexdigest().encode() in everything
        assert secret not in everything
        assert secret[:16] not in everything


def test_the_dashboard_asks_for_the_same_tokens(
    service: Serving, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that is revoked ends the sessions that began with it, here and there."""
    monkeypatch.chdir(folder)
    token = make_token(folder, "read")
    with (
        httpx.Client(base_url=service.dashboard, trust_env=False) as dashboard,
        service.client() as client,
    ):
        assert dashboard.get("/api/studies").status_code == 401
        logged_in = dashboard.post("/autotune/login", data={"token": token})
        assert logged_in.status_code == 303
        assert client.post("/login", data={"token": token}).status_code == 303
        assert dashboard.get("/api/studies").status_code == 200
        assert client.get("/studies").status_code == 200
        assert dashboard.put("/api/studies/1/note", json={}).status_code == 403
        here = dict(client.cookies.items())
        with httpx.Client(base_url=service.dashboard, trust_env=False, cookies=here) as there:
            assert there.get("/api/studies").status_code == 200  # one login opens both
        assert main(["token", "revoke", token.split("_")[1]]) == 0
        deadline = time.monotonic() + _PATIENCE_S
        while 200 in (dashboard.get("/api/studies").status_code, client.get("/").status_code):
            assert time.monotonic() < deadline  # tokens are read once a second
            time.sleep(0.1)
        assert dashboard.get("/api/studies").status_code == 401
        assert client.get("/studies").status_code == 401
        page = client.get("/studies?x=1", headers={"Accept": "text/html"})
        assert page.headers["location"] == "/login?next=%2Fstudies%3Fx%3D1"


def test_a_browser_logs_in(service: Serving, tokens: dict[str, str]) -> None:
    """A page leads to the login; the cookie is not readable by scripts, and is no token."""
    with service.client() as client:
        redirect = client.get("/", headers={"Accept": "text/html"})
        assert (redirect.status_code, redirect.headers["location"]) == (303, "/login")
        wrong = client.post("/login", data={"token": "wrong"})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        done = client.post("/login", data={"token": tokens["read"]})
        assert done.status_code == 303
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert tokens["read"].split("_", 2)[2] not in cookie
        page = client.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert client.post("/studies", json={"script": "train.py"}).status_code == 403


def test_a_real_browser_logs_in(service: Serving, tokens: dict[str, str]) -> None:
    """Its form is taken for ours: no header of ours makes it send another Origin."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = next(
        (p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None
    )
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(service.url)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        api.expect(page.get_by_text("not valid")).to_be_visible()
        page.get_by_label("Token").fill(tokens["read"])
        page.get_by_role("button", name="Log in").click()
        api.expect(page.get_by_role("heading", name="Studies", exact=True)).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Log out").click()
        api.expect(page.get_by_label("Token")).to_be_visible()
        page.goto(service.url)
        api.expect(page.get_by_label("Token")).to_be_visible()
        browser.close()


def test_hosts_and_origins(service: Serving, tokens: dict[str, str]) -> None:
    """A foreign name, and a page of another site, are refused before anything else."""
    own = service.url.removeprefix("http://")
    with service.client(tokens["submit"]) as client:
        for host in (
            *("evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80"),
            *("evil.example:443", "127.0.0.1@evil.example", "[::1].evil.example"),
        ):
            for path in ("/studies", "/login", "/health", "/openapi.json"):
                answer = client.get(path, headers={"Host": host})
                assert answer.status_code in (400, 421), (host, path)
        for host in ("localhost", "TUNER.example", "tuner.example:443"):
            assert client.get("/studies", headers={"Host": host}).status_code == 200, host
        for origin in (
            *("https://evil.example", "null", "", "http://127.0.0.1.evil.example"),
            *("http://127.0.0.1", "http://127.0.0.1:9", "http://localhost:8000", "file://"),
            f"http://{own}@evil.example",
        ):
            for method, path in (("POST", "/studies"), ("GET", "/studies"), ("POST", "/login")):
                answer = client.request(method, path, headers={"Origin": origin})
                assert answer.status_code == 403, origin
                assert answer.json()["error"] == "the request is another site's"
        for origin in (service.url, "https://tuner.example"):
            answer = client.post("/studies", json={}, headers={"Origin": origin})
            assert answer.status_code == 422
            assert not any(name.startswith("access-control") for name in answer.headers)
        preflight = {"Origin": service.url, "Access-Control-Request-Method": "POST"}
        assert client.options("/studies", headers=preflight).status_code == 405
    for host in ("127.0.0.1", ""):
        with service.connect() as connection:
            first = f"Host: {host}\r\n" if host else ""
            connection.sendall(f"GET /login HTTP/1.1\r\n{first}Host: evil\r\n\r\n".encode())
            assert connection.recv(4096).split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    "path",
    [
        "../outside.py",
        "sub/../../outside.py",
        "sub/../sub/train.py",
        "/etc/passwd",
        "link.py",
        "linked/outside.py",
        "chain.py",
        "saved_out",
        "none.py",
        "sub",
        ".",
        "./",
        "notes.txt",
        "pipe.py",
        "",
        "a\x00b.py",
        "a\nb.py",
        "\ud800.py",
        "x" * 600,
        "y" * 300,
        "..\\outside.py",
        "loop/loop.py",
        "sub/train.py/x.py",
        "~/train.py",
        "$HOME/train.py",
    ],
)
def test_paths(tmp_path: Path, path: str) -> None:
    """Nothing outside of the folder, through links or not; nothing that is no script."""
    models = tmp_path / "models"
    (models / "sub").mkdir(parents=True)
    (tmp_path / "outside.py").touch()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    (models / "sub" / "train.py").touch()
    (models / "notes.txt").touch()
    (models / "link.py").symlink_to(tmp_path / "outside.py")
    (models / "chain.py").symlink_to("sub/chain.py")
    (models / "sub" / "chain.py").symlink_to("../link.py")
    (models / "linked").symlink_to(tmp_path)
    (models / "saved_out").symlink_to(tmp_path / "saved")
    (models / "loop").symlink_to(models / "loop")
    subprocess.run(["mkfifo", str(models / "pipe.py")], check=True)
    with pytest.raises(ForbiddenScriptError):
        find_script(models, path)
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


def test_what_is_listed(tmp_path: Path) -> None:
    """Scripts and saved models, not what is hidden or within a saved model."""
    for name in ("a.py", ".git/b.py", "__pycache__/c.py", "d/e.py", "m/saved_model.pb", "m/f.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")).touch()  # no UTF-8: no request has it
    (tmp_path / "a\nb.py").touch()
    assert list_scripts(tmp_path) == ["a.py", "d/e.py", "m"]


def test_arguments_are_no_options_and_no_shell(tmp_path: Path) -> None:
    """Whatever is submitted stands after --, or is glued to the option that it belongs to."""
    evil = ("--storage", "sqlite:///x", "; touch hacked", "$(touch hacked)", "--", "--model=/x")
    spec = StudySpec(
        model=Path("train.py"), name="-x", arguments=evil, knobs=("--json",), phase="-h", pairs=0
    )
    # what a request may not give has no effect, should it be stored
    spec = dataclasses.replace(spec, python=Path("/bin/sh"), environment=(("LD_PRELOAD", "x"),))
    wanted = Submission(spec=spec)
    argv = command_of(wanted, tmp_path / "train.py", "/usr/bin/python3", ["--run-as=nobody"])
    at = argv.index("--")
    assert argv[at + 1 :] == list(evil)
    assert argv[:at] == [
        *(sys.executable, "-P", "-m", "autotuner", "run"),
        "--json",
        "--wait",
        "--run-as=nobody",
        f"--model={tmp_path}/train.py",
        "--python=/usr/bin/python3",
        "--study=-x",
        "--knobs=--json",
        "--phase=-h",
        "--pairs=0",
    ]


def test_the_environment_of_runs_is_built() -> None:
    """It holds nothing of the service's environment but what is passed on."""
    own = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "x",
        "LC_ALL": "C",
        "MINE": "1",
        "LD_PRELOAD": "y",
        "AUTOTUNE_TOKEN": "z",
    }
    found = environment_of_runs(own, ["MINE"], "postgresql://u:p@h/d")
    assert found == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "MINE": "1",
        "AUTOTUNE_STORAGE": "postgresql://u:p@h/d",
    }


def test_what_may_be_asked_for(service: Serving, tokens: dict[str, str]) -> None:
    """Interpreters and knobs that are known, names that are names, and nothing else."""
    (service.models / "out.py").unlink(missing_ok=True)
    (service.models / "out.py").symlink_to("/etc/passwd")
    with service.client(tokens["submit"]) as client:
        before = sum(refusals(service).values())
        changes: list[dict[str, object]] = [
            {"python": "/bin/sh"},
            {"python": "python3"},
            {"study": "x\n"},
            {"study": "x\u202e"},
            {"study": "x" * 101},
            {"study": " "},
            {"study": ""},
            {"study": QUEUE},
            {"sampler": "all"},
            {"margin": 2},
            {"seed": 10**12},
            {"phase": "a\x00b"},
            {"budget": "9" * 400},
            {"max_memory": "much"},
            {"batch_size": 8},
            {"environment": {"A": "1"}},
            {"model": "/etc/passwd"},
            {"knobs": ["none"]},
            {"knobs": ["--json"]},
            {"knobs": ["intra_op,--storage=x"]},
            {"effort": "all"},
            {"trials": 0},
            {"trials": 10**9},
            {"trials": "3; reboot"},
            {"pairs": -1},
            {"budget": "1; rm -rf /"},
            {"budget": "0s"},
            {"budget": "1000000h"},
            {"measure_time": "31d"},
            {"measure_time": "-1s"},
            {"arguments": ["x" * 2000]},
            {"arguments": ["a\x00b"]},
            {"arguments": ["x"] * 100},
            {"arguments": "x"},
            {"unknown": 1},
            {"script": "../train.py"},
            {"script": "out.py"},
            {"script": "/etc/passwd"},
            {"script": None},
            {"script": ["train.py"]},
        ]
        for change in changes:
            answer = client.post("/studies", json={"script": "train.py", **change})
            assert answer.status_code == 422, (change, answer.text)
            assert set(answer.json()) == {"error", "hint"}
            assert str(service.folder) not in answer.text
        contents = [b"", b"[", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 50_000, b"9" * 20_000]
        contents += [b'{"script": "\\ud800.py"}', b'{"script": "train.py", "trials": 1e999}']
        for content in contents:
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                answer = client.post("/studies", content=content, headers={"Content-Type": kind})
                assert answer.status_code in (400, 422), content
        logged = sum(refusals(service).values()) - before
        assert logged == len(changes) + 3 * len(contents)
        assert client.get("/studies/..%2f..%2fetc/best.env").status_code in (404, 422)
        assert client.get(f"/studies/{QUEUE}").status_code == 404
        assert client.get(f"/studies/{QUEUE}/best.env").status_code == 404
        assert client.get("/studies/train/best.sh").status_code == 404
        assert client.get("/nothing").status_code == 404
        assert client.delete("/studies").status_code == 405
        assert client.get("/studies").json() == []
    assert "422 script: it leads out of the service's folder of models" in service.log
    (service.models / "out.py").unlink()


def test_huge_bodies(service: Serving, tokens: dict[str, str]) -> None:
    """Refused by their announced length, and by what arrives; huge headers are refused, too."""
    with service.client(tokens["submit"]) as client:
        for size in (MOST_BODY_BYTES + 1, 32 << 20):
            assert client.post("/studies", content=b"x" * size).status_code == 413
            assert client.get("/studies").status_code == 200

        def endless() -> Iterator[bytes]:
            for _ in range(1000):
                yield b"x" * 4096

        assert client.post("/studies", content=endless()).status_code == 413
        assert client.post("/login", content=endless()).status_code == 413
        for size in (MOST_HEADER_BYTES, 60 << 10):
            answer = client.get("/studies", headers={"X-Long": "x" * size})
            assert answer.status_code == 431
        assert client.get("/studies/" + "x" * MOST_HEADER_BYTES).status_code == 431
        with contextlib.suppress(httpx.ReadError):  # where what was sent has crossed the answer
            answer = client.get("/studies", headers={"X-Long": "x" * (1 << 20)})
            assert answer.status_code in (400, 431)
        assert client.get("/studies").status_code == 200
    with service.connect() as connection:  # what is announced, and does not come
        length = f"Content-Length: {9 * 10**18}\r\nAuthorization: Bearer {tokens['submit']}\r\n"
        connection.sendall(f"POST /studies HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert refusals(service)[f"413 a body of more than {MOST_BODY_BYTES} bytes"] == 5


def test_slow_clients(service: Serving, tokens: dict[str, str]) -> None:
    """A client that sends its headers or its body by drops is hung up on; others are served."""
    begin = "GET /studies HTTP/1.1\r\nHost: localhost\r\n"
    whole = f"{begin}Authorization: Bearer {tokens['read']}\r\n\r\n"
    part = f"{begin}X-Drop: ".encode()
    silent = [service.connect() for _ in range(10)]
    headers = [service.connect() for _ in range(20)]
    for connection in headers:
        connection.sendall(part)
    later = service.connect()  # begins well
    later.sendall(whole.encode() + part)
    body, refused = service.connect(), service.connect()
    length = b"POST /studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    body.sendall(length + f"Authorization: Bearer {tokens['submit']}\r\n\r\nx".encode())
    refused.sendall(length + b"\r\nx")
    dripping = [*headers, later, body, refused]
    gone: set[socket.socket] = set()
    received: dict[socket.socket, bytes] = {}
    deadline = time.monotonic() + _PATIENCE_S
    with service.client(tokens["read"]) as client:
        while len(gone) < len(dripping):
            assert client.get("/studies").status_code == 200
            assert time.monotonic() < deadline
            for connection in set(dripping) - gone:
                answered = drip(connection)
                if answered is not None:
                    received[connection] = received.get(connection, b"") + answered
                if answered == b"":
                    gone.add(connection)
            time.sleep(0.5)
    assert b" 408 " in received[body]
    assert b" 401 " in received[refused]
    assert b" 200 " in received[later]
    assert not any(received.get(connection) for connection in headers)
    for connection in silent:
        assert connection.recv(4096) == b""
    for connection in (*silent, *dripping):
        connection.close()
    assert refusals(service)["408 the body did not arrive within 10 s"] == 1


def test_ten_thousand_requests(tmp_path: Path) -> None:
    """A flood without a token is refused, and logged in part; a token beside it is served."""
    token = make_token(tmp_path, "read")
    with serving(tmp_path, "--require-token") as service:

        def ask(count: int, given: str) -> Counter[int]:
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
            headers, codes = {"Authorization": f"Bearer {given}"}, Counter[int]()
            for _ in range(count):
                connection.request("GET", "/studies", headers=headers)
                with connection.getresponse() as answer:
                    answer.read()
                    codes[answer.status] += 1
                    assert answer.status != 429 or answer.headers["retry-after"] == "1"
            connection.close()
            return codes

        with ThreadPoolExecutor(10) as pool:
            known = pool.submit(ask, 1000, token)
            guessed = sum(pool.map(ask, [1000] * 9, [f"{token[:-1]}!"] * 9), Counter[int]())
        assert known.result() == {200: 1000}
        assert sum(guessed.values()) == 9000
        assert set(guessed) == {401, 429}
        assert guessed[401] >= 600
        assert guessed[429] > 4 * guessed[401]
        logged = refusals(service)["429 more than 600 requests a minute"]
        assert logged < 1000  # of a flood a part: it must not fill the disk
        assert sum(map(int, re.findall(r"\((\d+) messages left out\)", service.log))) > 4000
        assert service.stop() == 0


def test_no_trace_reaches_a_client(service: Serving, tokens: dict[str, str]) -> None:
    """Odd paths are answered by an error, and nothing of what is inside; no line can be forged."""
    with service.client(tokens["read"]) as client:
        odd = ("%00", "x" * 300, "%ff%fe", "a%0d%0a2026-01-01 forged", "%E2%80%AE")
        answers = [client.get(f"/studies/{path}") for path in odd]
    for answer in answers:
        assert answer.status_code in (404, 422)
        assert "Traceback" not in answer.text
        assert "error" in json.loads(answer.text)
    assert "\n2026-01-01 forged" not in service.log
    with service.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 no HTTP at all\r\n\r\n")
        answered = connection.recv(4096)
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"Traceback" not in answered


def test_what_goes_wrong_inside_stays_inside(tmp_path: Path) -> None:
    """A deleted database: the client gets an error without internals; the log has the cause."""
    with serving(tmp_path) as service:
        # not overwritten with rubbish: SQLite might go on with the pages that it remembers
        file = tmp_path / ".autotune/studies.db"
        with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                connection.execute(f'DROP TABLE "{table}"')
            connection.commit()
        for token in (None, "at_0123456789ab_" + "x" * 43):
            with service.client(token) as client:
                answer = client.get("/studies")
            assert (answer.status_code, answer.json()["error"]) == (
                503,
                "the storage does not answer",
            )
            assert "Traceback" not in answer.text
            assert str(tmp_path) not in answer.text
        assert "503 the storage does not answer" in service.log
        assert "no such table" in service.log


def test_any_request_that_fits_the_schema(tmp_path: Path) -> None:
    """Schemathesis makes up requests from the description: none is answered by a server error."""
    pytest.importorskip("schemathesis")
    token = make_token(tmp_path, "submit")
    with serving(tmp_path, "--require-token", "--interpreter", "this=python3") as service:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {token}", "--header", "Accept: */*"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--exclude-path-regex", "events$", "--max-examples", "10", "--request-timeout", "60"),
            *("--seed", "1", "--no-color"),
        ]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert not [why for why in refusals(service) if why.startswith(("500 ", "429 "))]
        assert "Traceback" not in service.log
