"""What a study shows in the real optuna-dashboard, and the middleware in front of it.

The dashboard's formats that we write ourselves are pinned here against the installed version.
"""

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import optuna
import optuna_dashboard
import pytest
from a2wsgi import WSGIMiddleware
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna_dashboard._app import create_app

from autotuner.errors import UserError
from autotuner.options.names import is_reserved
from autotuner.service.access import AccessMiddleware
from autotuner.service.dashboard import dashboard_app, open_dashboard, single_token
from autotuner.study.artifacts import artifact_store, keep_study_files
from autotuner.study.bulk import count_trials, read_trials, write_attributes, write_values
from autotuner.study.queue_store import QueueStore
from autotuner.study.record import Role, read_records
from autotuner.study.studies import load_study
from autotuner.trial.outcome import Status
from autotuner.verdict.result import load_result
from tests.fakes import Bench, finished
from tests.integration.served import Served

# one process runs them all, so that there is one study
pytestmark = pytest.mark.xdist_group("dashboard")
HOST = "127.0.0.1:8080"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a finished study."""
    return finished(tmp_path_factory.mktemp("dashboard"))


def ask(
    app: Any, method: str, path: str, body: bytes = b"", *, host: str = HOST, **headers: str
) -> httpx.Response:
    """Return an ASGI application's answer; it gets names with underscores as headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Host": host, "Accept-Encoding": "", "Content-Type": "application/json"}

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            return await client.request(method, path, content=body, headers=sent)

    return asyncio.run(answer())


def guarded(bench: Bench, **fields: Any) -> AccessMiddleware:
    """Return the dashboard of the study behind the middleware."""
    known = {"127.0.0.1", "localhost"}
    settings = {"hosts": known, "login": None, "read_only": False, **fields}
    return dashboard_app(bench.storage, bench.folder / ".autotune/artifacts", **settings)


def plain(bench: Bench) -> Any:
    """Return the dashboard of the study without the middleware."""
    store = artifact_store(bench.folder / ".autotune")
    return WSGIMiddleware(optuna_dashboard.wsgi(bench.storage, store))


@pytest.fixture(scope="module")
def detail(bench: Bench) -> Any:
    """Return the study as the dashboard's page gets it."""
    app = plain(bench)
    summaries = ask(app, "GET", "/api/studies").json()["study_summaries"]
    assert [summary["study_name"] for summary in summaries] == ["s"]
    return ask(app, "GET", f"/api/studies/{summaries[0]['study_id']}").json()


def test_the_study_is_explained(bench: Bench, detail: Any) -> None:
    """Its note has script, machine, noise, verdict, and what to deploy."""
    note = detail["note"]["body"]
    for part in (
        "# s\n",
        "**FASTER: 1.",
        "export TF_NUM_INTRAOP_THREADS=",
        "machine: ",
        "TensorFlow 2",
        "noise floor",
        "step_ms_p50",
        "autotune run --study s",
    ):
        assert part in note, part
    assert detail["note"]["version"] >= 1
    assert detail["objective_names"] == ["throughput (steps/s)"]


def test_every_trial_is_explained(bench: Bench, detail: Any) -> None:
    """Each has a note, flat attributes to sort by, a value for each window, and its files."""
    crashed = 0
    for trial in detail["trials"]:
        note, attributes = trial["note"], {a["key"]: a["value"] for a in trial["user_attrs"]}
        assert note["version"] == 1
        assert note["body"].startswith("**")
        assert attributes["role"].strip('"') in [role.value for role in Role]
        files = {artifact["filename"]: artifact for artifact in trial["artifacts"]}
        assert files["output.log"]["mimetype"] == "text/plain"
        if attributes["status"].strip('"') == Status.MEASURED:
            for name in ("throughput", "gain", "step_ms_p50", "step_ms_p99", "peak_rss_mib"):
                assert float(attributes[name]) > 0, name
            steps = [point["step"] for point in trial["intermediate_values"]]
            windows = json.loads(attributes["result"])["throughput"]["windows"]
            assert steps == list(range(windows))
            assert files["windows.csv"]["mimetype"] == "text/csv"
        else:
            crashed += 1
            assert "ValueError: boom | pipe" in note["body"]
    assert crashed > 0


def is_of_a_pair(trial: dict[str, Any]) -> bool:
    """Return whether a trial, as the dashboard has it, is a side of a final pair."""
    attributes = {a["key"]: a["value"] for a in trial["user_attrs"]}
    return json.loads(attributes["task"])["pair"] is not None


def test_plots_are_drawn_from_what_was_measured(detail: Any) -> None:
    """Four plots, each a figure with as many points as there is to show."""
    figures = {g["id"]: json.loads(g["graph_object"]) for g in detail["plotly_graph_objects"]}
    assert sorted(figures) == ["drift", "effects", "final", "ratios"]
    measured = [t for t in detail["trials"] if t["state"] == "Complete"]
    points = sum(len(trace["x"]) for trace in figures["final"]["data"])
    assert points == len([t for t in measured if is_of_a_pair(t)]) / 2
    assert all(figure["layout"]["title"]["text"] for figure in figures.values())


def test_notes_can_be_shortened_and_read_back(bench: Bench, detail: Any) -> None:
    """What we write is what the dashboard's own functions read."""
    assert optuna_dashboard.get_note(bench.study) == detail["note"]["body"]
    assert load_result(bench.study) is not None


def test_trials_are_read_as_optuna_reads_them(bench: Bench) -> None:
    """Two queries of ours against Optuna's objects: the schema is what we think it is."""
    mine = read_trials(bench.storage, bench.study)
    theirs = bench.study.get_trials()
    assert len(mine) == len(theirs) > 20
    assert not isinstance(mine[0], type(theirs[0]))
    for one, other in zip(mine, theirs, strict=True):
        assert one.number == other.number
        assert one.state is other.state
        assert one.user_attrs == other.user_attrs
        assert one.datetime_start == other.datetime_start
        assert one.datetime_complete == other.datetime_complete
    assert read_records(mine) == read_records(theirs)
    bench.storage.create_new_study([StudyDirection.MAXIMIZE], "no trials yet")
    assert count_trials(bench.storage) == {
        one.study_name: one.n_trials for one in optuna.get_all_study_summaries(bench.storage)
    }
    assert list(count_trials(bench.storage)) == [bench.study.study_name, "no trials yet"]


def test_attributes_are_written_as_optuna_writes_them(bench: Bench) -> None:
    """In one transaction: new ones and changed ones, and none to a trial that has ended."""
    study = optuna.create_study(storage=bench.storage, study_name="attributes")
    trial = study.ask()
    trial.set_user_attr("changed", 1)
    wanted = {"changed": 2, "new": [1, {"a": "ä"}], "none": None, "number": 0.1}
    write_attributes(bench.storage, trial, wanted)
    assert study.get_trials()[0].user_attrs == wanted
    trial.report(7.0, 1)
    write_values(bench.storage, trial, [1.5, 2.5, 3.5])
    write_values(bench.storage, trial, [])
    assert study.get_trials()[0].intermediate_values == {0: 1.5, 1: 2.5, 2: 3.5}
    study.tell(trial, 1.0)
    with pytest.raises(UpdateFinishedTrialError):
        write_attributes(bench.storage, trial, {"changed": 3, "late": 1})
    with pytest.raises(UpdateFinishedTrialError):
        write_values(bench.storage, trial, [4.5])
    stored = load_study(bench.storage, "attributes").get_trials()[0]
    assert stored.user_attrs == wanted
    assert stored.intermediate_values == {0: 1.5, 1: 2.5, 2: 3.5}
    optuna.delete_study(study_name="attributes", storage=bench.storage)


def test_exported_files_are_kept_once(bench: Bench, tmp_path: Path) -> None:
    """Writing them again replaces them."""
    store, path = artifact_store(bench.folder / ".autotune"), tmp_path / "best.env"
    for text in ("one", "two"):
        path.write_text(text)
        keep_study_files(store, bench.study, [path])
    app = plain(bench)
    (artifact,) = ask(app, "GET", "/api/studies/1").json()["artifacts"]
    assert artifact["filename"] == "best.env"
    assert ask(app, "GET", f"/artifacts/1/{artifact['artifact_id']}").content == b"two"


def routes(bench: Bench) -> Iterator[tuple[str, str]]:
    """Yield (method, path) of everything that the real application answers to."""
    app = create_app(bench.storage, artifact_store(bench.folder / ".autotune"))
    for route in app.routes:
        path = re.sub(r"<[^>]*re:[^>]*>|<[^>]*>", "1", route.rule)
        yield route.method, path


def test_read_only_lets_no_write_through(bench: Bench) -> None:
    """Whatever could write, of all that the application knows, is refused."""
    app = guarded(bench, read_only=True)
    writes = [(m, path) for m, path in routes(bench) if m != "GET"]
    assert len(writes) >= 15
    for method, path in writes:
        answer = ask(app, method, path, b"{}")
        assert answer.status_code == 403, (method, path)
        assert "read-only" in answer.json()["reason"]
    assert ask(app, "GET", "/api/studies").status_code == 200


def test_writes_get_through_otherwise(bench: Bench) -> None:
    """A note can be written from the browser, on top of ours and not instead of a newer one."""
    body = json.dumps({"body": "mine", "version": 99}).encode()
    assert ask(guarded(bench), "PUT", "/api/studies/1/1/note", body).status_code == 409
    body = json.dumps({"body": "mine", "version": 2}).encode()
    assert ask(guarded(bench), "PUT", "/api/studies/1/1/note", body).status_code == 204


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.com"])
def test_foreign_hosts_are_refused(bench: Bench, host: str) -> None:
    """A page that points its own name at this address learns nothing."""
    answer = ask(guarded(bench), "GET", "/api/studies", host=host)
    assert answer.status_code == 403
    assert b"study_summaries" not in answer.content


def test_what_may_be_secret_is_not_shown(bench: Bench) -> None:
    """Neither the queue of a service, nor a script's arguments and environment."""
    store = QueueStore(bench.storage)
    store.set_attribute("token:x", "hash")
    store.add({"job": "--password hunter2"})
    queue_ids = [
        bench.storage.get_study_id_from_name(name)
        for name in optuna.get_all_study_names(bench.storage)
        if is_reserved(name)
    ]
    assert len(queue_ids) == 2
    for app, is_shown in ((plain(bench), True), (guarded(bench), False)):
        listed = ask(app, "GET", "/api/studies").text
        assert ("token:x" in listed) == is_shown
        answers = [
            ask(app, "GET", path.format(one)).text
            for one in queue_ids
            for path in ("/api/studies/{}", "/csv/{}", "/api/studies/{}/param_importances")
        ]
        assert ("hunter2" in "".join(answers)) == is_shown
        detail = ask(app, "GET", "/api/studies/1").json()
        shown = {one["key"] for one in detail["user_attrs"]}
        assert ({"spec", "facts", "origin"} & shown != set()) == is_shown
    for name in ("autotune-queue-0", "autotune-queue"):
        optuna.delete_study(study_name=name, storage=bench.storage)


def test_known_hosts_are_let_in(bench: Bench) -> None:
    """Names are compared without ports, in any case."""
    app = guarded(bench, hosts={"127.0.0.1", "[::1]", "Tuner.Example"})
    for host in ("127.0.0.1", "127.0.0.1:99", "[::1]:8080", "tuner.example", "TUNER.example:1"):
        assert ask(app, "GET", "/api/studies", host=host).status_code == 200, host


def test_another_sites_writes_are_refused(bench: Bench) -> None:
    """A form on a foreign page can't write, though it may reach us by our own name."""
    app = guarded(bench)
    foreign = ask(app, "DELETE", "/api/studies/77", b"{}", Origin="http://evil.example")
    assert foreign.status_code == 403
    body = json.dumps({"body": "mine", "version": 99}).encode()
    own = ask(app, "PUT", "/api/studies/1/2/note", body, Origin="http://127.0.0.1:8080")
    assert own.status_code == 409  # it got through: the note has another version


def test_a_token_is_asked_for(bench: Bench) -> None:
    """By a page for people, by 401 for programs; the right one gets in by header or by cookie."""
    app = guarded(bench, login=single_token("correct horse"))
    page = ask(app, "GET", "/dashboard/studies/1", Accept="text/html")
    assert page.status_code == 303
    assert page.headers["location"] == "/autotune/login?next=%2Fdashboard%2Fstudies%2F1"
    assert ask(app, "GET", "/api/studies").status_code == 401
    assert ask(app, "GET", "/api/studies", Authorization="Bearer nope").status_code == 401
    assert ask(app, "GET", "/api/studies", Cookie="autotune_dashboard=nope").status_code == 401
    right = ask(app, "GET", "/api/studies", Authorization="Bearer correct horse")
    assert right.status_code == 200

    login = page.headers["location"]
    assert b'type="password"' in ask(app, "GET", login).content
    assert ask(app, "POST", login, b"token=wrong").status_code == 401
    done = ask(app, "POST", login, b"token=correct+horse")
    assert done.status_code == 303
    assert done.headers["location"] == "/dashboard/studies/1"
    cookie = done.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    inside = ask(app, "GET", "/api/studies", Cookie=f"a=b; {cookie.split(';')[0]}")
    assert inside.status_code == 200


@pytest.mark.parametrize("target", ["//evil.example", "http://evil.example", "/\\evil", "%0d%0aX"])
def test_the_login_leads_nowhere_else(bench: Bench, target: str) -> None:
    """A link to the login page can't send the user to another site."""
    app = guarded(bench, login=single_token("correct horse"))
    done = ask(app, "POST", f"/autotune/login?next={target}", b"token=correct+horse")
    assert done.headers["location"] == "/"


def test_the_login_page_holds_nothing_of_the_request(bench: Bench) -> None:
    """What stands in the address is escaped."""
    app = guarded(bench, login=single_token("correct horse"))
    page = ask(app, "GET", '/autotune/login?next=/"><script>alert(1)</script>')
    assert b"<script" not in page.content


def test_artifacts_do_not_run(bench: Bench, tmp_path: Path) -> None:
    """A file that claims to be a page is shown as text, without access to the dashboard."""
    store = artifact_store(bench.folder / ".autotune")
    app = guarded(bench)
    body = {"file": "data:text/html;base64,PHNjcmlwdD4=", "filename": "x.html"}
    created = ask(app, "POST", "/api/artifacts/1", json.dumps(body).encode())
    assert created.status_code == 201
    pages = [a for a in created.json()["artifacts"] if a["filename"] == "x.html"]
    answer = ask(app, "GET", f"/artifacts/1/{pages[0]['artifact_id']}")
    assert answer.content == b"<script>"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert "access-control-allow-origin" not in answer.headers
    store.remove(pages[0]["artifact_id"])


@pytest.mark.parametrize(
    ("host", "token", "message"),
    [
        ("0.0.0.0", None, "anyone who reaches it"),
        ("127.0.0.1", "short", "at least 8"),
        ("192.0.2.1", "long enough", "assign requested address"),
    ],
)
def test_servers_that_are_not_opened(
    bench: Bench, host: str, token: str | None, message: str
) -> None:
    """Open to everyone, a token that can be guessed, an address that is not ours."""
    with pytest.raises(UserError, match=message):
        open_dashboard(
            bench.storage,
            bench.folder,
            host=host,
            port=0,
            allowed=(),
            login=single_token(token),
            read_only=True,
        )


def test_sigterm_ends_it_amid_requests(bench: Bench) -> None:
    """The server raises only the exception of the end while it serves clients."""
    for _ in range(2):
        served, ended = Served(bench.folder), threading.Event()

        def ask_on(url: str, ended: threading.Event) -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError, HTTPException):
                    urlopen(f"{url}/api/studies").close()

        asking = [threading.Thread(target=ask_on, args=(served.url, ended)) for _ in range(6)]
        for thread in asking:
            thread.start()
        try:
            with urlopen(f"{served.url}/api/studies") as answer:
                assert answer.status == 200
            assert served.close() == 0
        finally:
            ended.set()
            served.process.kill()
            for thread in asking:
                thread.join()


def test_it_is_closed_from_outside_amid_requests(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread that runs it ends without an error, whatever clients are connected."""
    for _ in range(10):
        server = open_dashboard(
            bench.storage,
            bench.folder,
            host="127.0.0.1",
            port=0,
            allowed=(),
            login=None,
            read_only=True,
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /api/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert client.recv(4) == b"HTTP"
            client.sendall(b"GET /api/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            server.stop()
            thread.join(10)
            assert not thread.is_alive()
    assert all(record.levelname != "ERROR" for record in caplog.records)
