"""The service as its clients see it: submitted, followed, fetched, killed, gone on with."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autotuner.cli.main import main
from autotuner.service.jobs import BusyStudyError, Queue, QueueFullError, State, Submission
from autotuner.study.crew import this_worker
from autotuner.study.storage import default_url, open_database
from tests.conftest import left_of, living_with
from tests.integration.serving import Serving, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service on which one study has been tuned to its end."""
    with serving(tmp_path_factory.mktemp("service")) as service:
        assert service.submit().status_code == 202
        service.until("train", "done")
        yield service


def command(service: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of our commands against a service."""
    return subprocess.run(
        [sys.executable, "-m", "autotuner", *arguments],
        env={**os.environ, "AUTOTUNE_URL": service.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_comes_of_a_submission(service: Serving) -> None:
    """State, verdict, who has submitted it, and links to the files."""
    told = service.state("train")
    assert told["part"] == 1.0
    assert told["script"] == "train.py"
    assert told["trials"] >= 3
    assert told["result"]
    assert told["by"] == "anyone here"
    with service.client() as client:
        assert [one["name"] for one in client.get("/studies").json()] == ["train"]
        for name, link in told["links"].items():
            if name != "events":
                assert client.get(link).status_code == 200, name
        assert client.get("/health").json()["status"] == "ok"
        assert client.get("/scripts").json()["scripts"] == ["train.py"]


def test_a_deployment_script(service: Serving, tmp_path: Path) -> None:
    """``curl`` the file, source it, and run: the variables are there."""
    file = tmp_path / "best.env"
    url = f"{service.url}/studies/train/best.env"
    script = f"curl -sSf {url} -o {file} && . {file} && env"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    told = json.loads(command(service, "fetch", "train", "--format", "json").stdout)
    for name, value in told["environment"].items():
        assert f"{name}={value}" in done.stdout.splitlines()


def test_polling_is_cheap(service: Serving) -> None:
    """The same file has the same ETag, and is not sent twice; another file has another one."""
    with service.client() as client:
        first = client.get("/studies/train/best.env")
        etag = first.headers["etag"]
        again = client.get("/studies/train/best.env", headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert client.get("/studies/train/best.json").headers["etag"] != etag


def test_the_commands(service: Serving, tmp_path: Path) -> None:
    """``autotune status`` and ``fetch`` say what the service does, and errors what to do."""
    listed = command(service, "status")
    assert "train" in listed.stdout
    assert command(service, "status", "train").stdout.startswith("train: done: ")
    followed = command(service, "status", "train", "--follow")
    assert (followed.returncode, followed.stdout.count("\n")) == (0, 1)
    told = json.loads(command(service, "status", "train", "--json").stdout)
    assert told["state"] == "done"
    output = tmp_path / "deployed.py"
    assert (
        command(service, "fetch", "train", "--format", "python", "--output", str(output)).returncode
        == 0
    )
    assert "apply" in output.read_text() or "environ" in output.read_text()
    for arguments, said in (
        (["status", "other"], "there is no study other"),
        (["fetch", "train", "--format", "xml"], 'unknown format "xml"'),
        (["submit", "other.py"], "script: there is no such file"),
        (["cancel", "train"], "has ended"),
        (["status", "--url", "http://127.0.0.1:9"], "is autotune serve running there?"),
    ):
        done = command(service, *arguments)
        assert done.returncode == 1, arguments
        assert said in done.stderr


def test_two_submissions_of_one_name(service: Serving) -> None:
    """The same twice is one; with other settings it is refused while the first is not over."""
    first = service.submit(study="twice", trials=2)
    second = service.submit(study="twice", trials=2)
    other = service.submit(study="twice", trials=3)
    assert [one.status_code for one in (first, second, other)] == [202, 200, 409]
    assert "other settings" in other.json()["error"]
    service.until("twice", "done")
    assert service.submit(study="twice", trials=3).status_code == 202  # goes on
    service.until("twice", "done")


def test_cancel(service: Serving) -> None:
    """What waits never begins; what runs is ended, and what it has measured is kept."""
    assert service.submit(study="long", trials=500).status_code == 202
    assert service.submit(study="waits").status_code == 202
    service.until("long", "running")
    while service.state("long")["trials"] < 2:
        time.sleep(0.1)
    with service.client() as client:
        assert client.get("/studies/long/best.env").status_code == 409
        assert client.post("/studies/waits/cancel").status_code == 202
        assert client.post("/studies/long/cancel").status_code == 202
    assert service.until("waits", "cancelled")["trials"] == 0
    told = service.until("long", "cancelled")
    assert told["trials"] >= 2
    assert "kept" in told["said"]
    assert service.submit(study="after", trials=1).status_code == 202
    service.until("after", "done")


def test_events(service: Serving) -> None:
    """A client that follows hears of progress, and of the end."""
    assert service.submit(study="followed", trials=2).status_code == 202
    done = command(service, "status", "followed", "--follow")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("followed: running") for line in lines)
    assert lines[-1].startswith("followed: done")


def test_trials_do_not_see_the_service_s_environment(service: Serving) -> None:
    """It is built: neither secrets nor the storage's URL are in it."""
    script = service.models / "curious.py"
    script.write_text(
        "import os, sys\nprint('\\n'.join(sorted(os.environ)), flush=True)\n"
        + (service.models / "train.py").read_text()
    )
    assert service.submit(script="curious.py", study="curious", trials=1).status_code == 202
    service.until("curious", "done")
    log = next((service.folder / ".autotune" / "curious" / "trials").glob("0000/output.log"))
    seen = set(log.read_text().split())
    assert {"PATH", "MARK"} <= seen
    assert not seen & {"SECRET_OF_THE_SERVICE", "AUTOTUNE_STORAGE", "AUTOTUNE_TOKEN"}


def test_a_script_that_fails(service: Serving) -> None:
    """The study fails, with the reason; the next one runs."""
    (service.models / "broken.py").write_text("raise ValueError('no data')\n")
    assert service.submit(script="broken.py").status_code == 202
    told = service.until("broken", "failed")
    assert "no data" in told["said"]


def test_killed_in_mid_study(tmp_path: Path) -> None:
    """kill -9: nothing goes on running, and the next service ends what was running and waiting."""
    mark = uuid.uuid4().hex
    with serving(tmp_path, mark=mark) as service:
        assert service.submit().status_code == 202
        assert service.submit(study="second", trials=1).status_code == 202
        service.until("train", "running")
        while service.state("train")["trials"] < 2:
            time.sleep(0.1)
        service.process.kill()
        service.process.wait()
    assert left_of(mark) == []
    with serving(tmp_path, mark=mark) as service:
        assert service.until("train", "done")["trials"] >= 3
        service.until("second", "done")
        assert service.stop() == 0
    assert left_of(mark) == []
    assert living_with(mark) == []


def test_stopped_in_mid_study(tmp_path: Path) -> None:
    """Ctrl-C ends the trial in order and puts the study back; the exit code is 0."""
    mark = uuid.uuid4().hex
    with serving(tmp_path, mark=mark) as service:
        assert service.submit(trials=200).status_code == 202
        service.until("train", "running")
        while service.state("train")["trials"] < 1:
            time.sleep(0.1)
        assert service.stop() == 0, service.said
    assert left_of(mark) == []
    queue = Queue(open_database(default_url(tmp_path / ".autotune"), create=False))
    states = [job.state for job in queue.jobs()]
    assert states[-1] is State.QUEUED


def submission(study: str = "s", **fields: Any) -> Submission:
    return Submission(study=study, script="train.py", **fields)


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
    queue.note(taken[0], part=0.5, said="trial 3")
    queue.finish(taken[0], State.DONE, "FASTER")
    told = queue.latest("a")
    assert told is not None
    assert (told.state, told.part, told.said) == (State.DONE, 1.0, "FASTER")
    queue.finish(taken[0], State.FAILED, "too late")
    assert queue.latest("a") == told


def test_a_dead_service_s_job_waits_again(queue: Queue) -> None:
    """It is put back once, however often it is looked at; a cancelled one is not."""
    dead = this_worker().signature(60).replace('"pid": ', '"pid": 9999')
    queue.submit(submission("a"), "me")
    queue.submit(submission("b"), "me")
    for _ in "ab":
        queue.take(dead)
    cancelled = queue.latest("b")
    assert cancelled is not None
    queue.cancel(cancelled)
    assert queue.is_cancelled(cancelled)
    assert queue.sweep() == 2
    assert queue.sweep() == 0
    states = [(job.submission.study, job.state) for job in queue.jobs()]
    assert states == [
        ("a", State.FAILED),
        ("b", State.CANCELLED),
        ("a", State.QUEUED),
    ]


def test_the_queue_has_an_end(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody can fill the database."""
    monkeypatch.setattr("autotuner.service.jobs.MOST_WAITING", 2)
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
    for options, said in (
        (["--models", "none"], "no such folder"),
        (["--models", "models", "--host", "0.0.0.0"], "a token is needed"),
        (["--models", "models", "--interpreter", "x=/none"], "no such interpreter"),
        (["--models", "models", "--storage", "sqlite:////none/x.db"], "can't be written"),
    ):
        assert main(["serve", "--port", "0", *options]) == 1
        assert said in capsys.readouterr().err
