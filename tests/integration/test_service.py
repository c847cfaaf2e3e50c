"""The service as its clients see it: submit, follow, fetch, cancel, read the page."""

import asyncio
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from autotuner.cli.main import main
from autotuner.options.study_spec import StudySpec
from autotuner.service.api import Service, make_app
from autotuner.service.queue import BusyStudyError, JobState, Queue, QueueFullError, Submission
from autotuner.service.views import Views
from autotuner.study.storage import default_url, open_database
from autotuner.study.workers import this_worker
from tests.another_user import NOBODY, open_up
from tests.commands import SCRIPT, TREE, autotune
from tests.integration.serving import Serving, serving

# one process runs them all, so that there is one service with a study, and one browser
pytestmark = pytest.mark.xdist_group("service")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCRIPTS = ("a.py", "b.py", "a.py")
KERAS = """\
import os
import numpy
import tensorflow as tf

model = tf.keras.Sequential([tf.keras.layers.Dense(64), tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(numpy.zeros((6400, 32), "float32"), numpy.zeros((6400, 1), "float32"), verbose=0)
print("pool of", tf.config.threading.get_intra_op_parallelism_threads(), "threads")
print("deployed with", os.environ.get("TF_NUM_INTRAOP_THREADS"))
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service on which one study has been tuned to its end."""
    with serving(tmp_path_factory.mktemp("service")) as service:
        assert service.submit().status_code == 202
        service.until("train", "done")
        yield service


def command(service: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of our commands against a service."""
    return autotune(*arguments, cwd=service.folder, AUTOTUNE_URL=service.url)


def test_what_comes_of_a_submission(service: Serving) -> None:
    """State, verdict, the submitter, and links to the files."""
    status = service.state("train")
    assert status["progress"] == 1.0
    assert status["script"] == "train.py"
    assert status["trials"] >= 2
    assert status["result"]
    assert status["submitted_by"] == "anyone here"
    with service.client() as client:
        assert "train" in [one["name"] for one in client.get("/studies").json()]
        for name, link in status["links"].items():
            assert client.get(link).status_code == 200, name
        assert client.get("/health").json()["status"] == "ok"
        assert "train.py" in client.get("/scripts").json()["scripts"]


def test_a_deployment_script(service: Serving, tmp_path: Path) -> None:
    """``curl`` the file, source it, and run: the variables are there."""
    file = tmp_path / "best.env"
    url = f"{service.url}/studies/train/best.env"
    script = f"curl -sSf {url} -o {file} && . {file} && env"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    status = json.loads(command(service, "fetch", "train", "--format", "json").stdout)
    assert status["environment"]
    for name, value in status["environment"].items():
        assert f"{name}={value}" in done.stdout.splitlines()


@pytest.mark.real_tensorflow
def test_submit_follow_fetch_deploy(tmp_path: Path) -> None:
    """A keras script on real TensorFlow, by our commands only, to the process that is deployed."""
    with serving(tmp_path, PYTHONPATH=str(TREE)) as service:
        (service.models / "model.py").write_text(KERAS)
        done = command(
            service,
            *("submit", "model.py", "--effort", "fast", "--trials", "1", "--pairs", "0"),
            *("--measure-time", "0.3s", "--follow"),
        )
        assert done.returncode == 0, done.stdout + done.stderr + service.log
        lines = done.stdout.splitlines()
        assert lines[0] == "study model: queued"
        assert any(line.startswith("model: running") for line in lines)
        assert lines[-1].startswith("model: done: ")
        fetched = tmp_path / "best.env"
        done = command(service, "fetch", "model", "--format", "env", "--output", str(fetched))
        assert done.returncode == 0, done.stderr
        threads = re.search(r"^export TF_NUM_INTRAOP_THREADS=(\d+)$", fetched.read_text(), re.M)
        assert threads is not None
        deployed = subprocess.run(
            ["sh", "-c", f". {fetched} && exec {sys.executable} {service.models / 'model.py'}"],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert f"deployed with {threads[1]}" in deployed.stdout.splitlines()


def test_polling_is_cheap(service: Serving) -> None:
    """The same file has the same ETag, and is not sent twice; another file has another one."""
    with service.client() as client:
        first = client.get("/studies/train/best.env")
        etag = first.headers["etag"]
        again = client.get("/studies/train/best.env", headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        weak = client.get("/studies/train/best.env", headers={"If-None-Match": f'"x", W/{etag}'})
        assert weak.status_code == 304  # as a proxy that compresses makes it
        assert client.get("/studies/train/best.json").headers["etag"] != etag
    with serving(service.folder) as another, another.client() as client:  # not by what it remembers
        assert client.get("/studies/train/best.env").headers["etag"] == etag
        assert another.stop(signal.SIGTERM) == 0


def test_the_commands(
    service: Serving,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``autotune status`` and ``fetch`` print what the service returns; errors have a hint."""
    listed = command(service, "status")
    assert "train" in listed.stdout
    assert command(service, "status", "train").stdout.startswith("train: done: ")
    followed = command(service, "status", "train", "--follow")
    assert (followed.returncode, followed.stdout.count("\n")) == (0, 1)
    status = json.loads(command(service, "status", "train", "--json").stdout)
    assert status["state"] == "done"
    output = tmp_path / "deployed.py"
    done = command(service, "fetch", "train", "--format", "python", "--output", str(output))
    assert done.returncode == 0
    compile(output.read_text(), "deployed.py", "exec")
    assert "os.environ" in output.read_text()
    monkeypatch.setenv("AUTOTUNE_URL", service.url)
    for arguments, message in (
        (["status", "other"], "there is no study other"),
        (["fetch", "train", "--format", "xml"], 'unknown format "xml"'),
        (["submit", "other.py"], "script: there is no such file"),
        (["submit", "train.py", "--effort", "all"], '--effort: unknown value "all"'),
        (["submit", "train.py", "--seed", str(2**40)], "seed: Input should be"),
        (["cancel", "train"], "has ended"),
        (["status", "--url", "http://127.0.0.1:9"], "is autotune serve running there?"),
        (["status", "--url", "gopher:x"], "unsupported protocol"),
        (["status", "--url", f"{service.dashboard}/dashboard?"], "none of autotune's service"),
    ):
        assert main(arguments) == 1, arguments
        assert message in capsys.readouterr().err
    assert service.submit(effort="all").json()["error"].startswith("effort: Input should be")


def test_two_submissions_of_one_name(service: Serving) -> None:
    """The same twice is one; with other settings it is refused while the first is not over."""
    first = service.submit(study="twice", trials=1, pairs=0)
    second = service.submit(study="twice", trials=1, pairs=0)
    other = service.submit(study="twice", trials=2, pairs=0)
    assert [one.status_code for one in (first, second, other)] == [202, 200, 409]
    assert "another script or settings" in other.json()["error"]
    assert service.until("twice", "done")["trials"] >= 1
    again = {"trials": 1, "pairs": 0, "measure_time": "0.3s"}
    assert service.submit(study="twice", **again).status_code == 202  # resumes
    assert service.until("twice", "done")["trials"] >= 1
    with service.client() as client:
        assert client.get("/studies/twice/best.json").json()["study"] == "twice"


def test_a_script_that_has_changed(service: Serving) -> None:
    """It is tuned as a study of its own; what is fetched by the old name is the new one's."""
    script = service.models / "changes.py"
    original = (service.models / "train.py").read_text()
    etags = []
    for version in "12":
        script.write_text(f"{original}# version {version}\n")
        assert service.submit(script="changes.py", trials=1, pairs=0).status_code == 202
        service.until("changes", "done")
        with service.client() as client:
            answer = client.get("/studies/changes/best.json")
            etags.append(answer.headers["etag"])
    assert answer.json()["study"] == "changes-2"
    assert etags[0] != etags[1]
    with service.client() as client:
        names = [one["name"] for one in client.get("/studies").json()]
    assert names.count("changes") == 1
    assert "changes-2" not in names


def test_names_of_any_kind(service: Serving) -> None:
    """One rule for command line and HTTP: a slash, blanks and dots are parts of a name."""
    with service.client() as client:
        for name in ("a/b", "../x", "-x", "50% {off}", "studies.db-journal", "é ü"):
            answer = service.submit(study=name, trials=1, pairs=0)
            assert answer.status_code == 202, answer.text
            status = answer.json()
            assert status["name"] == name
            assert answer.headers["location"] == status["links"]["events"].removesuffix("/events")
            assert client.get(answer.headers["location"]).json()["name"] == name
            assert client.post(f"{answer.headers['location']}/cancel").status_code == 202
            service.until(name, "cancelled", "done")
        assert client.get("/health").status_code == 200
    folders = service.folder / ".autotune"
    assert {one.name for one in folders.iterdir() if one.is_dir()} <= {"studies", "artifacts"}


def test_the_list_in_pages(service: Serving) -> None:
    """Each page leads to the next; together they are all studies, each once."""
    with service.client() as client:
        everything = [one["name"] for one in client.get("/studies?limit=500").json()]
        assert len(everything) >= 2
        found, path = [], "/studies?limit=1"
        while path:
            answer = client.get(path)
            found += [one["name"] for one in answer.json()]
            path = answer.links.get("next", {}).get("url", "")
        assert found == everything
        for wrong in ("limit=0", "limit=501", "offset=-1", "limit=x"):
            assert client.get(f"/studies?{wrong}").status_code == 422
        assert client.get("/studies?offset=1000").json() == []
        assert "There are only" in client.get("/?offset=1000").text


def test_a_script_that_is_swapped_while_it_waits(service: Serving, tmp_path: Path) -> None:
    """What was submitted is run, or nothing: neither another file nor a changed one."""
    outside = tmp_path / "outside.py"
    outside.write_text("open('hacked', 'w')\n" + SCRIPT)
    assert service.submit(study="first", trials=500).status_code == 202
    for name in ("linked", "changed"):
        (service.models / f"{name}.py").write_text(SCRIPT)
        assert service.submit(script=f"{name}.py").status_code == 202
    (service.models / "linked.py").unlink()
    (service.models / "linked.py").symlink_to(outside)
    (service.models / "changed.py").write_text(outside.read_text())
    again = service.submit(script="changed.py")
    assert (again.status_code, "another script" in again.json()["error"]) == (409, True)
    assert command(service, "cancel", "first").returncode == 0
    assert "leads out of" in service.until("linked", "failed")["message"]
    assert "has changed since" in service.until("changed", "failed")["message"]
    assert not list(service.folder.rglob("hacked"))
    (service.models / "linked.py").unlink()


def test_a_study_that_is_removed(service: Serving) -> None:
    """Its job and its files are not offered any more; its folder is found and removed."""
    assert service.submit(study="removed", trials=1, pairs=0).status_code == 202
    service.until("removed", "done")
    folder = service.folder / ".autotune/studies/removed"
    assert folder.is_dir()
    assert "removed 1," in autotune("clean", "removed", "--yes", cwd=service.folder).stdout
    assert not folder.exists()
    status = service.state("removed")
    assert (status["message"], status["result"]) == ("the study was removed since", None)
    with service.client() as client:
        answer = client.get("/studies/removed/best.env")
    assert (answer.status_code, answer.json()["error"]) == (409, "study removed was removed since")


def test_cancel(service: Serving) -> None:
    """A job that waits never begins; one that runs ends, and its measurements are kept."""
    assert service.submit(study="long", trials=500).status_code == 202
    assert service.submit(study="waits").status_code == 202
    service.until("long", "running", trials=2)
    with contextlib.ExitStack() as stack:  # not more than so many may follow
        answers = []
        for _ in range(129):
            client = stack.enter_context(service.client())
            answers.append(stack.enter_context(client.stream("GET", "/studies/long/events")))
        assert [one.status_code for one in answers] == [200] * 128 + [503]
    with service.client() as client:
        assert client.get("/studies/long/best.env").status_code == 409
        assert client.post("/studies/waits/cancel").status_code == 202
    assert command(service, "cancel", "long").stdout == "study long: cancelling\n"
    assert service.until("waits", "cancelled")["trials"] == 0
    status = service.until("long", "cancelled")
    assert status["trials"] >= 2
    assert "kept" in status["message"]
    assert service.submit(study="after", trials=1, pairs=0).status_code == 202
    service.until("after", "done")


def test_events(service: Serving) -> None:
    """A client that follows a study gets its progress and its end."""
    assert service.submit(study="followed", trials=1, pairs=0).status_code == 202
    one = threading.Thread(target=command, args=(service, "status", "--follow"))
    one.start()
    done = command(service, "status", "followed", "--follow", "--json")
    assert done.returncode == 0, done.stderr
    followed = [json.loads(line) for line in done.stdout.splitlines()]
    assert followed[-1]["state"] == "done"
    assert {"running"} <= {one["state"] for one in followed}
    progress = [one["progress"] for one in followed]
    assert progress == sorted(progress)
    one.join(timeout=60)
    assert not one.is_alive()


def test_trials_do_not_see_the_service_s_environment(service: Serving) -> None:
    """It is built: neither secrets nor the storage's URL are in it."""
    script = service.models / "curious.py"
    script.write_text(
        "import os, sys\nprint('\\n'.join(sorted(os.environ)), flush=True)\n"
        + (service.models / "train.py").read_text()
    )
    assert service.submit(script="curious.py", trials=1, pairs=0).status_code == 202
    service.until("curious", "done")
    log = next(
        (service.folder / ".autotune" / "studies" / "curious" / "trials").glob("0000/output.log")
    )
    seen = set(log.read_text().split())
    assert {"PATH", "MARK", "PYTHONPATH"} <= seen
    assert not seen & {"SECRET_OF_THE_SERVICE", "AUTOTUNE_STORAGE", "AUTOTUNE_TOKEN"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run scripts as another user")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no /usr/bin/python3 here")
def test_trials_run_as_another_user(tmp_path: Path) -> None:
    """With ``--run-as`` what the service itself knows is closed to scripts."""
    open_up(tmp_path)
    plain = ("--interpreter", "plain=/usr/bin/python3")  # which others may run, too
    with serving(tmp_path, "--run-as", NOBODY, *plain) as service:
        script = service.models / "nosy.py"
        nosy = "import os\nprint('uid', os.getuid(), flush=True)\n"
        for path in (f"/proc/{service.process.pid}/environ", "/proc/%d/environ"):
            shown = repr(path) + (" % os.getppid()" if "%" in path else "")
            nosy += f"try:\n    open({shown}).read()\n    print('read', flush=True)\n"
            nosy += "except PermissionError:\n    print('closed', flush=True)\n"
        script.write_text(nosy + SCRIPT)
        assert service.submit(script="nosy.py", python="plain", trials=1, pairs=0).is_success
        service.until("nosy", "done")
        log = tmp_path / ".autotune/studies/nosy/trials/0000/output.log"
        lines = log.read_text().splitlines()
    assert lines[:3] == [f"uid {pwd.getpwnam(NOBODY).pw_uid}", "closed", "closed"]


def test_arguments_reach_the_script_as_they_are(service: Serving) -> None:
    """Options, shell syntax and separators among them."""
    evil = ["--storage", "sqlite:///x", "; touch hacked", "$(touch hacked)", "--", "-x", "ä\n'\""]
    script = service.models / "telling.py"
    script.write_text(
        "import json, sys\nprint('got:' + json.dumps(sys.argv[1:]), flush=True)\n"
        + (service.models / "train.py").read_text()
    )
    answer = service.submit(script="telling.py", arguments=evil, trials=1, pairs=0)
    assert answer.status_code == 202
    service.until("telling", "done")
    log = next(
        (service.folder / ".autotune" / "studies" / "telling" / "trials").glob("0000/output.log")
    )
    line = next(line for line in log.read_text().splitlines() if line.startswith("got:"))
    assert json.loads(line.removeprefix("got:")) == evil
    assert not list(service.folder.rglob("hacked"))


def test_a_script_that_fails(service: Serving) -> None:
    """The study fails, with the reason; there is nothing to fetch; the next one runs."""
    (service.models / "broken.py").write_text("raise ValueError('no \\x1b[31mdata')\n")
    assert service.submit(script="broken.py").status_code == 202
    status = service.until("broken", "failed")
    assert "broken.py:1: ValueError: no \\x1b[31mdata" in status["message"]
    assert "Traceback" not in status["message"]
    assert str(service.folder) not in status["message"]
    assert "output.log" in service.log  # for the operator of the service
    with service.client() as client:
        answer = client.get("/studies/broken/best.env")
    assert (answer.status_code, answer.json()["error"]) == (
        409,
        "study broken: nothing was measured",
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        # root, as in CI's containers, has no sandbox
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_the_page(service: Serving, browser: Browser, tmp_path: Path) -> None:
    """Without JavaScript: studies, verdicts, progress, links that lead to the files."""
    (service.models / "<b>x.py").write_text("")
    odd = Path(os.fsdecode(os.fsencode(service.models) + b"/\xff.py"))
    odd.touch()  # can't be shown
    assert service.submit(study="shown", trials=500).status_code == 202
    assert service.submit(study="behind").status_code == 202
    service.until("shown", "running", trials=1)
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.goto(service.url)
    row = page.get_by_role("row").filter(has_text="train.py").filter(has_text="done").last
    expect(row).to_contain_text(service.state("train")["result"])
    shown = page.get_by_role("row").filter(has_text="shown")
    expect(shown).to_contain_text("running")
    assert shown.get_by_role("link").count() == 0
    expect(page.get_by_role("row").filter(has_text="behind")).to_contain_text("queued")
    expect(page.get_by_text("<b>x.py", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    wide = page.locator(".wide")
    assert wide.evaluate("frame => frame.scrollWidth <= frame.clientWidth")
    page.screenshot(path=tmp_path / "service.png", full_page=True)
    for name in ("report", "best.env", "best.py", "best.json"):
        link = row.get_by_role("link", name=name).get_attribute("href")
        assert page.request.get(f"{service.url}{link}").ok, name
    dashboard = page.get_by_role("link", name="dashboard").get_attribute("href")
    assert page.request.get(f"{dashboard}dashboard/").ok
    assert complaints == []
    context.close()
    with service.client() as client:
        for name in ("behind", "shown"):
            assert client.post(f"/studies/{name}/cancel").status_code == 202
    service.until("shown", "cancelled")
    (service.models / "<b>x.py").unlink()
    odd.unlink()


def test_the_page_on_a_phone(service: Serving, browser: Browser) -> None:
    """The page does not scroll sideways; the table does, in its own frame."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, is_mobile=True)
    page = context.new_page()
    page.goto(service.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_the_report_of_the_page(service: Serving, browser: Browser) -> None:
    """It is drawn as it is from a file, in the sandbox in which it is sent."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{service.url}/studies/train/report.html")
    page.locator("path.point").first.wait_for()
    assert complaints == []
    context.close()


def submission(study: str = "s", **fields: Any) -> Submission:
    return Submission(spec=StudySpec(model=Path("train.py"), name=study, **fields))


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """An empty queue in a file."""
    return Queue(open_database(default_url(tmp_path / ".autotune"), create=True))


def test_the_queue(queue: Queue) -> None:
    """First come, first served; each job is taken once."""
    first, new = queue.submit(submission("a"), "me")
    assert new
    queue.submit(submission("b"), "me")
    assert queue.submit(submission("a"), "me") == (first, False)
    with pytest.raises(BusyStudyError):
        queue.submit(submission("a", trials=3), "me")
    mine = this_worker().signature(60)
    taken = [queue.take(mine) for _ in range(3)]
    assert [job and job.submission.study for job in taken] == ["a", "b", None]
    assert queue.sweep() == 0  # its process lives
    assert taken[0] is not None
    queue.note(taken[0], progress=0.5, message="trial 3")
    assert queue.is_wanted(taken[0])
    queue.finish(taken[0], JobState.DONE, "FASTER", tuned="a-2")
    job = queue.latest().get("a")
    assert job is not None
    assert (job.state, job.progress, job.message) == (JobState.DONE, 1.0, "FASTER")
    queue.finish(taken[0], JobState.FAILED, "too late")
    queue.note(taken[0], progress=0.5, message="too late")
    assert queue.latest().get("a") == job
    assert not queue.is_wanted(taken[0])
    again, new = queue.submit(submission("a"), "me")
    assert new
    assert again.number != first.number
    latest = queue.latest().get("a")
    assert latest is not None
    assert latest.tuned == "a-2"  # until it has come to something itself


def test_submitted_at_once(tmp_path: Path) -> None:
    """Of the same submission by many at once one is in the queue, and all get the same job."""
    url = default_url(tmp_path / ".autotune")
    queues = [Queue(open_database(url, create=True)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda queue: queue.submit(submission(), "me"), queues))
    assert sum(new for _, new in found) == 1
    assert len({job.number for job, _ in found}) == 1
    assert [job.state for job in queues[0].jobs()] == [JobState.QUEUED]


def test_a_dead_service_s_job_waits_again(queue: Queue) -> None:
    """It is put back once, however often it is looked at, in its place; a cancelled one is not."""
    dead = this_worker().signature(60).replace('"pid": ', '"pid": 9999')
    for name in "abc":
        queue.submit(submission(name), "me")
    for _ in "ab":
        queue.take(dead)
    cancelled = queue.latest().get("b")
    assert cancelled is not None
    queue.cancel(cancelled)
    assert not queue.is_wanted(cancelled)
    assert queue.sweep() == 2
    assert queue.sweep() == 0
    states = [(job.submission.study, job.state) for job in queue.jobs()]
    assert states == [
        ("a", JobState.FAILED),
        ("b", JobState.CANCELLED),
        ("c", JobState.QUEUED),
        ("a", JobState.QUEUED),
    ]
    me = this_worker()
    taken = queue.take(me.signature(60))
    assert taken is not None
    assert taken.submission.study == "a"
    assert queue.sweep("another") == 0
    assert queue.sweep(me.key) == 1  # what it has taken itself, and is not at


def test_a_job_that_services_die_of_is_given_up(queue: Queue) -> None:
    """After the fifth: it may be what kills them."""
    dead = this_worker().signature(60).replace('"pid": ', '"pid": 9999')
    queue.submit(submission("a"), "me")
    for _ in range(5):
        assert queue.take(dead) is not None
        assert queue.sweep() == 1
    assert queue.take(dead) is None
    job = queue.latest().get("a")
    assert job is not None
    assert job.state is JobState.FAILED
    assert job.message == "given up: 5 services have died while they tuned it; submit it again"


def test_the_queue_has_an_end(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no client can fill the database."""
    monkeypatch.setattr("autotuner.service.queue.MOST_WAITING", 2)
    for name in "ab":
        queue.submit(submission(name), "me")
    with pytest.raises(QueueFullError):
        queue.submit(submission("c"), "me")


def test_serve_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that there is not, an open address without a token, an interpreter that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for options, message in (
        (["--models", "none"], "no such folder"),
        (["--models", "models", "--host", "0.0.0.0"], "a token is needed"),
        (["--models", "models", "--interpreter", "x=/none"], "no such interpreter"),
        (["--models", "models", "--storage", "sqlite:////none/x.db"], "can't be written"),
        (["--models", "models", "--run-as", "nobody-of-that-name"], "--run-as"),
        (["--models", "models", "--host", "192.0.2.1", "--require-token"], "a token is needed"),
    ):
        assert main(["serve", "--port", "0", *options]) == 1
        assert message in capsys.readouterr().err


def test_bounds_of_what_is_kept(tmp_path: Path, queue: Queue) -> None:
    """Of studies and of what waits; what is there already can be submitted again."""
    (tmp_path / "a.py").touch()
    (tmp_path / "b.py").touch()
    storage = open_database(default_url(tmp_path / ".autotune"), create=False)
    app = make_app(
        Service(
            queue=queue,
            views=Views(storage, queue),
            models=tmp_path,
            interpreters={},
            most_studies=1,
            dashboard_port=1,
            needs_token=False,
        )
    )

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            requests = [{"script": name} for name in SCRIPTS]
            return [(await client.post("/studies", json=one)).status_code for one in requests]

    with ThreadPoolExecutor(1) as thread:  # playwright has a loop of its own in this one
        assert thread.submit(asyncio.run, ask()).result() == [202, 503, 200]


def test_a_client_that_fetches_nothing(service: Serving) -> None:
    """The service closes a connection that fetches nothing; a slow client gets the whole answer."""
    asks = b"GET /studies/train/report.html HTTP/1.1\r\nHost: localhost\r\n\r\n"
    size = len(httpx.get(f"{service.url}/studies/train/report.html", trust_env=False).content)
    deaf, slow = (socket.socket() for _ in range(2))
    with deaf, slow:
        for connection, holds in ((deaf, 4096), (slow, 1 << 16)):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, holds)
            connection.connect(("127.0.0.1", service.port))
            connection.settimeout(60)
            connection.sendall(asks)
        port, begun = deaf.getsockname()[1], slow.recv(16384)
        deadline = time.monotonic() + 60
        assert begun.startswith(b"HTTP/1.1 200 ")
        fetched = len(begun)
        while port not in peers(service):
            assert time.monotonic() < deadline
        while port in peers(service):
            assert time.monotonic() < deadline
            fetched += len(slow.recv(16384))
            time.sleep(0.2)
        while fetched < size:
            got = len(slow.recv(1 << 20))
            assert got
            fetched += got
        with contextlib.suppress(ConnectionResetError):
            while got := len(deaf.recv(1 << 20)):
                size -= got
        assert size > 0


def peers(service: Serving) -> set[int]:
    """Return the ports of the clients that are connected to a service."""
    connections = psutil.Process(service.process.pid).net_connections(kind="tcp4")
    return {one.raddr.port for one in connections if one.raddr}
