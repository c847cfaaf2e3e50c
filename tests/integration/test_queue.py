"""The queue's rows: segments that are full of ended jobs are removed, and no job is lost."""

import threading
from collections import Counter
from pathlib import Path

import pytest

from autotuner.options.names import is_reserved
from autotuner.options.study_spec import StudySpec
from autotuner.service.queue import JobState, Queue, Submission
from autotuner.study import queue_store
from autotuner.study.queue_store import QueueStore, visible
from autotuner.study.storage import DatabaseGoneError, default_url, open_database


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a storage whose queue has short segments."""
    monkeypatch.setattr(queue_store, "_MOST_ROWS", 4)
    home = tmp_path / ".autotune"
    home.mkdir()
    return home


def opened(home: Path) -> Queue:
    return Queue(open_database(default_url(home), create=True))


def submission(name: str) -> Submission:
    return Submission(spec=StudySpec(model=Path("train.py"), name=name))


def tune(queue: Queue, *names: str) -> None:
    """Submit and end jobs, one after the other, as an executor does."""
    for name in names:
        queue.submit(submission(name), "me")
        job = queue.take("{}")
        assert job is not None
        queue.finish(job, JobState.DONE, "FASTER")
        queue.forget()


def test_ended_jobs_are_forgotten(home: Path) -> None:
    """However many jobs there were, few are kept; what waits stays."""
    queue, other = opened(home), opened(home)
    tune(queue, *(f"s{k}" for k in range(40)))
    other.submit(submission("waits"), "me")
    assert len(queue.jobs()) <= 2 * 4 + 1
    assert [job.submission.study for job in queue.jobs() if job.is_active] == ["waits"]
    assert queue.jobs() == other.jobs() == opened(home).jobs()
    taken = other.take("{}")
    assert taken is not None
    assert queue.is_wanted(taken)


def test_forgetting_everything_keeps_what_is_active(home: Path) -> None:
    """Jobs that wait or run are kept, and so are the attributes of the queue."""
    queue = opened(home)
    queue.store.set_attribute("token:x", "kept")
    tune(queue, "a", "b")
    queue.submit(submission("waits"), "me")
    assert queue.forget(everything=True) == 0  # the segment has one that waits
    assert {job.submission.study for job in queue.jobs()} == {"a", "b", "waits"}
    job = queue.take("{}")
    assert job is not None
    tune(queue, "c", "d")  # in a new segment
    assert queue.forget(everything=True) == 2
    assert {job.submission.study for job in queue.jobs()} == {"a", "b", "waits"}
    queue.finish(job, JobState.FAILED, "no")
    assert queue.forget() == 3  # as was asked for before
    assert queue.jobs() == opened(home).jobs() == []
    assert queue.store.attributes()["token:x"] == "kept"
    again, is_new = queue.submit(submission("a"), "me")
    assert is_new
    assert queue.jobs() == [again]


def test_no_job_is_lost_amid_clean_ups(home: Path) -> None:
    """Jobs that are added while others close and remove segments are all taken, each once."""
    added, done = 30, Counter[str]()
    over = threading.Event()

    def add(names: list[str]) -> None:
        queue = opened(home)
        for name in names:
            queue.submit(submission(name), "me")

    def clean() -> None:
        queue = opened(home)
        while not over.is_set():
            queue.forget(everything=True)
            over.wait(0.01)

    adders = [
        threading.Thread(target=add, args=([f"{part}-{k}" for k in range(added // 2)],))
        for part in "ab"
    ]
    cleaner = threading.Thread(target=clean, daemon=True)
    opened(home)
    for thread in (*adders, cleaner):
        thread.start()
    queue = opened(home)
    try:
        while sum(done.values()) < added or any(thread.is_alive() for thread in adders):
            job = queue.take("{}")
            if job is not None:
                done[job.submission.study] += 1
                over.wait(0.05)  # no study is tuned sooner
                queue.finish(job, JobState.DONE, "FASTER")
            elif not any(thread.is_alive() for thread in adders):
                break
    finally:
        over.set()
        for thread in (*adders, cleaner):
            thread.join()
    while (job := queue.take("{}")) is not None:
        done[job.submission.study] += 1
        queue.finish(job, JobState.DONE, "FASTER")
    assert len(done) == added
    assert set(done.values()) == {1}


def test_the_queue_is_no_study() -> None:
    """Lists of studies leave the queue out, with all its segments."""
    assert visible(["a", "autotune-queue", "autotune-queue-12", "autotune-queue-x"]) == [
        "a",
        "autotune-queue-x",
    ]
    assert is_reserved("autotune-queue-0")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_is_deleted(home: Path, replaced: bool) -> None:
    """Neither reading nor adding works on the deleted file, or on another one in its place."""
    store = QueueStore(open_database(default_url(home), create=True))
    store.add({"job": "1"})
    (home / "studies.db").unlink()
    if replaced:
        (home / "studies.db").write_bytes(b"")
    for use in (store.rows, lambda: store.add({}), lambda: store.set_attribute("x", 1)):
        with pytest.raises(DatabaseGoneError, match="deleted or replaced"):
            use()
