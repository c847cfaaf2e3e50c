"""The queue of what is to be tuned, kept in the storage: nothing is lost with a process.

The queue is a study of Optuna's, and a job a trial in it: WAITING until a service takes it, RUNNING
while it is tuned, then COMPLETE, or FAIL where it failed or was cancelled. Optuna makes a waiting
trial a running one for one process only, so several machines can serve one queue.
"""

import dataclasses
import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotuner.study.workers import GRACE_S, is_alive

QUEUE = "autotune-queue"
"""The name of the queue's study; lists of studies leave it out."""

MOST_WAITING = 100
_MOST_DEATHS = 5
_MOST_SAID = 500


class State(enum.StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (State.QUEUED, State.RUNNING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """What is to be tuned, and how; None: as ``autotune run`` does it by itself.

    ``script``: relative to the service's folder of models. ``python``: the name of one of its
    interpreters.
    """

    study: str
    script: str
    arguments: tuple[str, ...] = ()
    python: str | None = None
    effort: str | None = None
    objective: str | None = None
    knobs: tuple[str, ...] = ()
    trials: int | None = None
    budget: str | None = None
    pairs: int | None = None
    measure_time: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A submission in the queue.

    ``part``: which part of it is done, from 0 to 1. ``said``: the latest news, or how it ended.
    ``by``: the name of the token that has submitted it. ``cancel``: its end is wanted.
    ``tuned``: the name of the study that it has come to, which is not the submitted one where the
    script or the machine were no longer those of the study of that name; empty until it is done.
    """

    number: int
    state: State
    submission: Submission
    by: str
    submitted: str
    part: float
    said: str
    cancel: bool
    owner: str
    tuned: str

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE


class QueueFullError(Exception):
    """There are too many jobs already."""


class BusyStudyError(Exception):
    """The study of that name is being tuned, or waits, with other settings."""


class Queue:
    """The queue of one storage."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self.study = optuna.create_study(study_name=QUEUE, storage=storage, load_if_exists=True)
        self._study_id = storage.get_study_id_from_name(QUEUE)

    def jobs(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        return [_job(trial) for trial in self._trials()]

    def _trials(self) -> Iterator[FrozenTrial]:
        # the study keeps what is finished, so that only the rest is read
        for trial in self.study.get_trials(deepcopy=False):
            if "submission" in trial.user_attrs and "duplicate" not in trial.user_attrs:
                yield trial

    def latest(self, study: str) -> Job | None:
        """Return the latest job of a study."""
        return latest_jobs(self.jobs()).get(study)

    def submit(self, submission: Submission, by: str) -> tuple[Job, bool]:
        """Add a job; of what is in the queue already there is no second one.

        Returns:
            the job, and whether it is new.

        Raises:
            BusyStudyError: if the study is in the queue with other settings.
            QueueFullError: if there are too many.
        """
        jobs = self.jobs()
        known = _active(jobs, submission.study)
        if known is None:
            if sum(job.state is State.QUEUED for job in jobs) >= MOST_WAITING:
                raise QueueFullError
            number = self._add(submission, by, _now())
            # two may have been submitted at once: all see them in the same order
            jobs = self.jobs()
            known = _active(jobs, submission.study)
            if known is None or known.number == number:  # None: it has ended already
                return next(job for job in jobs if job.number == number), True
            self._storage.set_trial_user_attr(self._id(number), "duplicate", True)
            self._end(number, State.CANCELLED, "it was submitted twice at once")
        if known.submission != submission:
            raise BusyStudyError
        return known, False

    def _add(self, submission: Submission, by: str, submitted: str, **more: object) -> int:
        attributes = {
            "submission": json.dumps(dataclasses.asdict(submission)),
            "by": by,
            "submitted": submitted,
            **more,
        }
        template = create_trial(state=TrialState.WAITING, user_attrs=attributes)
        trial_id = self._storage.create_new_trial(self._study_id, template)
        return self._storage.get_trial_number_from_id(trial_id)

    def take(self, signature: str) -> Job | None:
        """Take the oldest job that waits; None if there is none.

        A study that is being tuned is not taken a second time.

        Args:
            signature: who takes it.
        """
        jobs = self.jobs()
        busy = {job.submission.study for job in jobs if job.state is State.RUNNING}
        waiting = [job for job in jobs if job.state is State.QUEUED]
        # what was put back keeps its place
        for job in sorted(waiting, key=lambda job: (job.submitted, job.number)):
            trial_id = self._id(job.number)
            if job.submission.study not in busy and self._starts(trial_id):
                self._storage.set_trial_user_attr(trial_id, "owner", signature)
                return dataclasses.replace(job, state=State.RUNNING, owner=signature)
        return None

    def _starts(self, trial_id: int) -> bool:
        """Make a waiting trial a running one; return False if another process was quicker."""
        try:
            return self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:  # cancelled in that moment
            return False

    def note(self, job: Job, *, part: float, said: str) -> None:
        """Note how far a job is."""
        try:
            self._set_news(self._id(job.number), part, said)
        except UpdateFinishedTrialError:
            return  # somebody has ended it: is_wanted says so

    def _set_news(self, trial_id: int, part: float, said: str) -> None:
        # of scripts, too: one line, and nothing that a terminal would obey
        text = "".join(c if c.isprintable() else " " for c in said[:_MOST_SAID])
        news = json.dumps([round(part, 4), text])
        self._storage.set_trial_user_attr(trial_id, "news", news)

    def finish(self, job: Job, state: State, said: str, *, tuned: str = "") -> None:
        """Note how a job has ended.

        Args:
            job: the job.
            state: how.
            said: the result, or why there is none.
            tuned: the name of the study that it has come to.
        """
        self._end(job.number, state, said, tuned)

    def _end(self, number: int, state: State, said: str, tuned: str = "") -> None:
        trial_id, done = self._id(number), state is State.DONE
        try:
            self._set_news(trial_id, float(done), said)
            self._storage.set_trial_user_attr(trial_id, "tuned", tuned)
            self._storage.set_trial_user_attr(trial_id, "state", state.value)
            if done:
                self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
            else:
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return  # somebody has ended it already

    def cancel(self, job: Job) -> None:
        """End a job that waits; of one that runs, ask whoever runs it to end it."""
        try:
            self._storage.set_trial_user_attr(self._id(job.number), "cancel", True)
        except UpdateFinishedTrialError:
            return  # it has ended meanwhile
        if job.state is State.QUEUED and self._starts(self._id(job.number)):
            self._end(job.number, State.CANCELLED, "cancelled before it began")

    def is_wanted(self, job: Job) -> bool:
        """Tell whether a job that runs is to go on: it is not cancelled, nor anybody else's now."""
        trial = self._storage.get_trial(self._id(job.number))
        return trial.state is TrialState.RUNNING and not trial.user_attrs.get("cancel", False)

    def put_back(self, job: Job, why: str, deaths: int = 0) -> None:
        """Let a job that runs wait again, for another process.

        Args:
            job: the job.
            why: why it is not tuned to its end.
            deaths: how many services have died of it, or with it, one after the other.

        It is added anew before it ends: a kill in between leaves two, of which the second finds
        nothing left to do, where the other order would leave none.
        """
        if not any(trial.user_attrs.get("again_of") == job.number for trial in self._trials()):
            more = {"again_of": job.number, "deaths": deaths}
            self._add(job.submission, job.by, job.submitted, **more)
        self._end(job.number, State.FAILED, f"put back into the queue: {why}")

    def sweep(self, idle: str = "") -> int:
        """Put jobs back whose process has died; return how many.

        Args:
            idle: the key of a worker that is at no job: what it has taken was given up.
        """
        attributes, swept = self.study.user_attrs, 0
        for trial in [one for one in self._trials() if one.state is TrialState.RUNNING]:
            owner = trial.user_attrs.get("owner", "")
            given_up = bool(idle) and idle in owner
            if not given_up and (is_alive(owner, attributes) or (not owner and _is_young(trial))):
                continue
            job = _job(trial)
            if job.cancel:
                self.finish(job, State.CANCELLED, "cancelled; its service had died")
            else:
                self._outlive(job, trial.user_attrs.get("deaths", 0) + 1)
            swept += 1
        return swept

    def _outlive(self, job: Job, deaths: int) -> None:
        """Put a job back whose service has died, or give it up: it may be what kills them."""
        if deaths < _MOST_DEATHS:
            self.put_back(job, "its service died", deaths)
        else:
            said = f"given up: {deaths} services have died while they tuned it; submit it again"
            self.finish(job, State.FAILED, said)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def latest_jobs(jobs: Iterable[Job]) -> dict[str, Job]:
    """Return the latest job of each study, by the names that were submitted.

    The latest one knows which study an earlier one has come to, if it has not come to any itself.
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


def _is_young(trial: FrozenTrial) -> bool:
    """Tell whether somebody may be about to sign a trial that was just taken."""
    if trial.datetime_start is None:
        return False
    return (datetime.now() - trial.datetime_start).total_seconds() < GRACE_S


def _active(jobs: list[Job], study: str) -> Job | None:
    return next((job for job in jobs if job.is_active and job.submission.study == study), None)


def _job(trial: FrozenTrial) -> Job:
    attributes = trial.user_attrs
    part, said = json.loads(attributes.get("news", '[0.0, ""]'))
    return Job(
        number=trial.number,
        state=_state(trial.state, attributes),
        submission=_submission(json.loads(attributes["submission"])),
        by=attributes.get("by", ""),
        submitted=attributes.get("submitted", ""),
        part=part,
        said=said,
        cancel=bool(attributes.get("cancel", False)),
        owner=attributes.get("owner", ""),
        tuned=attributes.get("tuned", ""),
    )


def _state(state: TrialState, attributes: Mapping[str, Any]) -> State:
    if state is TrialState.WAITING:
        return State.QUEUED
    if state is TrialState.RUNNING:
        return State.RUNNING
    return State(attributes.get("state", State.FAILED))


def _submission(fields: dict[str, Any]) -> Submission:
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Submission(**{**fields, **lists})


def visible(names: Iterable[str]) -> list[str]:
    """Return the names of studies that are not the queue."""
    return [name for name in names if name != QUEUE]
