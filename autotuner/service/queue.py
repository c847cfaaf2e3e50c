"""The queue of studies to be tuned, kept in the storage: a process that dies loses nothing.

A job waits until a service takes it, runs while the service tunes it, and ends. Several machines
can serve one queue: only one of them starts a job.

Each attribute of a job has one writer, so that no write loses another: ``job`` is written when the
job is added, ``owner`` by the service that takes it, ``status`` by the service that tunes it,
``cancel`` by the client that cancels it.

A stored job has a schema number. Jobs of another schema are left to the services that know it.
"""

import dataclasses
import enum
import json
import math
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from autotuner.codec import from_stored, to_stored
from autotuner.options.study_spec import StudySpec
from autotuner.study.queue_store import QueueStore, Row, Stage
from autotuner.study.storage import Storage
from autotuner.study.workers import GRACE_S, is_alive

SCHEMA = 1
"""Of stored jobs; a change of StudySpec that old JSON does not fit asks for the next one."""

T = TypeVar("T")
MOST_WAITING = 100
_MOST_DEATHS = 5
_MOST_MESSAGE = 500
_RECENT_S = 0.5


class JobState(enum.StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (JobState.QUEUED, JobState.RUNNING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """What is to be tuned, and how.

    ``spec``: has a name; its ``model`` is relative to the service's folder of models, and it has no
    ``python``. ``python``: the name of one of the service's interpreters, None for its own.
    ``model_sha256``: of the script when it was submitted, None if it was not looked at.
    """

    spec: StudySpec
    python: str | None = None
    model_sha256: str | None = None

    @property
    def study(self) -> str:
        """The name of the study."""
        return self.spec.name or ""

    @property
    def script(self) -> str:
        """The path of the script, relative to the folder of models."""
        return self.spec.model.as_posix()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Added:
    """What is known of a job when it is added.

    ``again_of``: the number of the job that it repeats. ``deaths``: how many services have died
    while they tuned it, one after the other.
    """

    submission: Submission
    submitted_by: str
    submitted: str
    again_of: int | None = None
    deaths: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Status:
    """How far a job is, or how it ended. ``end``: None while it runs."""

    progress: float = 0.0
    message: str = ""
    end: JobState | None = None
    tuned: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A submission in the queue.

    ``progress``: the part that is done, from 0 to 1. ``message``: the latest news, or the result.
    ``submitted_by``: the name of the token. ``cancel``: a client has cancelled it. ``owner``: the
    signature of the service that tunes it. ``tuned``: the name of the study in which the result is;
    it differs from the submitted name where the script or the machine has changed since that study
    was made. Empty until the job is done.
    """

    number: int
    state: JobState
    submission: Submission
    submitted_by: str
    submitted: str
    progress: float
    message: str
    cancel: bool
    owner: str
    tuned: str

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE


class QueueFullError(Exception):
    """Too many jobs wait already."""


class BusyStudyError(Exception):
    """The study of that name waits or is being tuned with other settings."""


class Queue:
    """The queue of one storage. ``store``: its rows, and the attributes that hold the tokens."""

    def __init__(self, storage: Storage) -> None:
        self.store = QueueStore(storage)
        # a row's first attribute never changes, and nothing of a row does once it has ended
        self._added: dict[int, _Added | None] = {}
        self._ended: dict[int, Job] = {}
        self._recent: tuple[float, int, Mapping[str, Job]] = (-math.inf, -1, {})

    def jobs(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        return [self._ended.get(row.number) or self._job(row, added) for row, added in self._rows()]

    def _job(self, row: Row, added: _Added) -> Job:
        job = _job(row, added)
        if row.stage is Stage.ENDED:
            self._ended[row.number] = job
        return job

    def _rows(self) -> list[tuple[Row, _Added]]:
        """Return the rows that hold jobs of our schema."""
        kept = (row for row in self.store.rows() if "duplicate" not in row.attributes)
        known = ((row, self._added_of(row)) for row in kept)
        return [(row, added) for row, added in known if added is not None]

    def _added_of(self, row: Row) -> _Added | None:
        if row.number not in self._added:
            self._added[row.number] = _read(_Added, row, "job")
        return self._added[row.number]

    def latest(self, within_s: float = _RECENT_S) -> Mapping[str, Job]:
        """Return the latest job of each study, by :func:`latest_jobs`, for clients that poll.

        A change by this process is seen at once, one by another within a time.
        """
        now, (read_at, changes, found) = time.monotonic(), self._recent
        if changes != self.store.changes or now - read_at > within_s:
            changes = self.store.changes
            found = latest_jobs(self.jobs())
            self._recent = (now, changes, found)
        return found

    def submit(self, submission: Submission, submitted_by: str) -> tuple[Job, bool]:
        """Add a job; a submission that is in the queue already is not added again.

        Returns:
            the job, and whether it is new.

        Raises:
            BusyStudyError: if the study is in the queue with other settings.
            QueueFullError: if too many jobs wait.
        """
        jobs = self.jobs()
        known = _active(jobs, submission.study)
        if known is None:
            if sum(job.state is JobState.QUEUED for job in jobs) >= MOST_WAITING:
                raise QueueFullError
            added = _Added(submission=submission, submitted_by=submitted_by, submitted=_now())
            number = self._add(added)
            # two may have been submitted at once: all processes see them in the same order
            jobs = self.jobs()
            known = _active(jobs, submission.study)
            if known is None or known.number == number:  # None: it has ended already
                return next(job for job in jobs if job.number == number), True
            self.store.write(number, "duplicate", True)
            self._end(number, JobState.CANCELLED, "it was submitted twice at once")
        if known.submission != submission:
            raise BusyStudyError
        return known, False

    def _add(self, added: _Added) -> int:
        return self.store.add({"job": json.dumps(to_stored(added, SCHEMA))})

    def take(self, signature: str) -> Job | None:
        """Start the oldest job that waits; return None if there is none.

        A study that is being tuned is not started a second time.

        Args:
            signature: of the service that takes the job.
        """
        jobs = self.jobs()
        busy = {job.submission.study for job in jobs if job.state is JobState.RUNNING}
        waiting = [job for job in jobs if job.state is JobState.QUEUED]
        # a job that was put back keeps its place
        for job in sorted(waiting, key=lambda job: (job.submitted, job.number)):
            if job.submission.study not in busy and self.store.start(job.number):
                self.store.write(job.number, "owner", signature)
                return dataclasses.replace(job, state=JobState.RUNNING, owner=signature)
        return None

    def note(self, job: Job, *, progress: float, message: str) -> None:
        """Write how far a job is, unless it has ended: :meth:`is_wanted` returns that."""
        self._write_status(job.number, _Status(progress=round(progress, 4), message=message))

    def _write_status(self, number: int, status: _Status) -> bool:
        # scripts have a part in messages: one line, without control characters of terminals
        text = "".join(c if c.isprintable() else " " for c in status.message[:_MOST_MESSAGE])
        stored = to_stored(dataclasses.replace(status, message=text), SCHEMA)
        return self.store.write(number, "status", json.dumps(stored))

    def finish(self, job: Job, state: JobState, message: str, *, tuned: str = "") -> None:
        """End a job, unless it has ended already.

        Args:
            job: the job.
            state: how it ended.
            message: the result, or the reason why there is none.
            tuned: the name of the study in which the result is.
        """
        self._end(job.number, state, message, tuned)

    def _end(self, number: int, state: JobState, message: str, tuned: str = "") -> None:
        done = state is JobState.DONE
        status = _Status(progress=float(done), message=message, end=state, tuned=tuned)
        if self._write_status(number, status):
            self.store.end(number, succeeded=done)

    def forget(self, *, everything: bool = False) -> int:
        """Forget jobs that have ended, the oldest first; return how many.

        Some hundred are kept. What was measured is in the studies, which stay.

        Args:
            everything: whether to forget all jobs that have ended, and that no older job waits for.
        """
        forgotten = self.store.forget(keep=0, close=True) if everything else self.store.forget()
        if forgotten:
            left = {row.number for row in self.store.rows()}
            self._added = {k: added for k, added in self._added.items() if k in left}
            self._ended = {k: job for k, job in self._ended.items() if k in left}
        return forgotten

    def cancel(self, job: Job) -> None:
        """End a job that waits; ask the service that runs it to end one that runs."""
        wrote = self.store.write(job.number, "cancel", True)
        if wrote and job.state is JobState.QUEUED and self.store.start(job.number):
            self._end(job.number, JobState.CANCELLED, "cancelled before it began")

    def is_wanted(self, job: Job) -> bool:
        """Return whether a job still runs here: not cancelled, not ended by another service."""
        row = self.store.row(job.number)
        return row.stage is Stage.RUNNING and not row.attributes.get("cancel", False)

    def put_back(self, job: Job, why: str, deaths: int = 0) -> None:
        """Let a job that runs wait again, for another process.

        The new row is added before the old one ends. A kill between the two steps leaves two rows,
        and the second finds nothing left to do; the other order would leave none.

        Args:
            job: the job.
            why: why it is not tuned to its end.
            deaths: how many services have died while they tuned it, one after the other.
        """
        if all(added.again_of != job.number for _, added in self._rows()):
            added = _Added(
                submission=job.submission,
                submitted_by=job.submitted_by,
                submitted=job.submitted,
                again_of=job.number,
                deaths=deaths,
            )
            self._add(added)
        self._end(job.number, JobState.FAILED, f"put back into the queue: {why}")

    def sweep(self, idle: str = "") -> int:
        """Put the jobs of dead processes back; return how many.

        Args:
            idle: the key of a worker that tunes nothing now: a job of its own was given up.
        """
        attributes, swept = self.store.attributes(), 0
        for row, added in [one for one in self._rows() if one[0].stage is Stage.RUNNING]:
            owner = row.attributes.get("owner", "")
            given_up = bool(idle) and idle in owner
            if not given_up and (is_alive(owner, attributes) or (not owner and _is_young(row))):
                continue
            job = _job(row, added)
            if job.cancel:
                self.finish(job, JobState.CANCELLED, "cancelled; its service had died")
            else:
                self._put_back_or_give_up(job, added.deaths + 1)
            swept += 1
        return swept

    def _put_back_or_give_up(self, job: Job, deaths: int) -> None:
        """Put back a job whose service died; after several deaths the job may be the cause."""
        if deaths < _MOST_DEATHS:
            self.put_back(job, "its service died", deaths)
        else:
            message = f"given up: {deaths} services have died while they tuned it; submit it again"
            self.finish(job, JobState.FAILED, message)


def latest_jobs(jobs: Iterable[Job]) -> dict[str, Job]:
    """Return the latest job of each study, by the names that were submitted.

    A job that has no result yet refers to the study of the job before it.
    """
    found: dict[str, Job] = {}
    for job in jobs:
        before = found.get(job.submission.study)
        if before is not None and not job.tuned:
            found[job.submission.study] = dataclasses.replace(job, tuned=before.tuned)
        else:
            found[job.submission.study] = job
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _is_young(row: Row) -> bool:
    """Return whether the process that has just started a row may not have signed it yet."""
    return row.started is not None and (datetime.now() - row.started).total_seconds() < GRACE_S


def _active(jobs: list[Job], study: str) -> Job | None:
    return next((job for job in jobs if job.is_active and job.submission.study == study), None)


def _read(kind: type[T], row: Row, name: str) -> T | None:
    """Return the value of a row's attribute; None if there is none of our schema."""
    return from_stored(kind, json.loads(row.attributes.get(name, "null")), SCHEMA)


def _job(row: Row, added: _Added) -> Job:
    status = _read(_Status, row, "status") or _Status()
    active = {Stage.WAITING: JobState.QUEUED, Stage.RUNNING: JobState.RUNNING}
    return Job(
        number=row.number,
        state=active.get(row.stage, status.end or JobState.FAILED),
        submission=added.submission,
        submitted_by=added.submitted_by,
        submitted=added.submitted,
        progress=status.progress,
        message=status.message,
        cancel=bool(row.attributes.get("cancel", False)),
        owner=row.attributes.get("owner", ""),
        tuned=status.tuned,
    )
