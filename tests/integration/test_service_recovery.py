"""A service that is killed or stopped in mid-study, and several that serve one queue."""

import contextlib
import json
import time
import uuid
from pathlib import Path

import psutil
import pytest
from optuna.storages import RDBStorage

from autotuner.service.queue import JobState, Queue
from autotuner.study.storage import default_url, open_database, open_storage
from autotuner.testing import postgres
from tests.integration.serving import serving
from tests.processes import left_of, living_with, wait_for


@pytest.mark.long
def test_killed_in_mid_study(tmp_path: Path) -> None:
    """kill -9 leaves no process, and the next service tunes what was running and what waited."""
    mark = uuid.uuid4().hex
    with serving(tmp_path, mark=mark) as service:
        assert service.submit(pairs=0).status_code == 202
        assert service.submit(study="second", trials=1, pairs=0).status_code == 202
        before = service.until("train", "running", trials=2)["trials"]
        wait_for(lambda: len(living_with(mark)) >= 2, "a run and its trial")
        service.kill()
    assert left_of(mark) == []
    with serving(tmp_path, mark=mark) as service:
        assert service.until("train", "running", "done")["trials"] >= before
        service.until("train", "done")
        first = service.state("second")["state"]
        assert first in ("queued", "running")  # what was running has kept its place
        service.until("second", "done")
        with service.client() as client:
            best = client.get("/studies/train/best.json").json()
        assert best["study"] == "train"  # the same study, resumed
        assert service.stop() == 0
    assert left_of(mark) == []
    assert living_with(mark) == []


def test_stopped_in_mid_study(tmp_path: Path) -> None:
    """Ctrl-C ends the trial in order, and the study waits again; the exit code is 0."""
    mark = uuid.uuid4().hex
    with serving(tmp_path, mark=mark) as service:
        assert service.submit(trials=200).status_code == 202
        service.until("train", "running", trials=1)
        assert service.stop() == 0, service.log
    assert left_of(mark) == []
    queue = Queue(open_database(default_url(tmp_path / ".autotune"), create=False))
    states = [job.state for job in queue.jobs()]
    assert states == [JobState.FAILED, JobState.QUEUED]
    assert "Traceback" not in service.log


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.skipif(not postgres.AVAILABLE, reason=postgres.REASON)
def test_several_machines_serve_one_queue(tmp_path: Path) -> None:
    """``--worker-only`` elsewhere takes a waiting job; after a kill another machine takes it."""
    mark = uuid.uuid4().hex
    folders = [tmp_path / name for name in ("front", "worker")]
    for folder in folders:
        folder.mkdir()
    with postgres.running(tmp_path / "postgres") as server:
        where = ("--storage", server.url)
        with (
            contextlib.ExitStack() as stack,
            serving(folders[0], *where) as front,
            serving(folders[1], *where, "--worker-only", mark=mark) as worker,
        ):
            storage = open_storage(server.url, create=False)
            assert isinstance(storage, RDBStorage)
            stack.callback(storage.engine.dispose)
            queue = Queue(storage)
            for name in ("one", "two"):
                assert front.submit(study=name, pairs=0).status_code == 202
            for name in ("one", "two"):
                front.until(name, "running", trials=1)
            owners = {
                json.loads(job.owner)["pid"]: job.submission.study
                for job in queue.jobs()
                if job.state is JobState.RUNNING
            }
            assert set(owners) == {front.process.pid, worker.process.pid}
            server.stop()  # both wait for it
            server.start()
            worker.kill()
            assert left_of(mark) == []
            for name in ("one", "two"):
                front.until(name, "done")
            ends = [
                job for job in queue.jobs() if job.submission.study == owners[worker.process.pid]
            ]
            assert [job.state for job in ends] == [JobState.FAILED, JobState.DONE]
            assert "p@ss" not in front.log + worker.log
            assert "p%40ss" not in front.log + worker.log
            assert front.stop() == 0


def test_a_worker_ends_in_order(tmp_path: Path) -> None:
    """Ctrl-C ends ``--worker-only`` as it ends the service; it listens nowhere."""
    with serving(tmp_path, "--worker-only") as worker:
        deadline = time.monotonic() + 60
        while "works on the queue" not in worker.log:
            assert time.monotonic() < deadline
            time.sleep(0.001)  # as soon as that is written
        assert psutil.Process(worker.process.pid).net_connections(kind="inet") == []
        assert worker.stop() == 0
        assert worker.process.returncode == 0
