"""The queue of what is to be tuned, kept in the storage: nothing is lost with a process.

The queue is a study of Optuna's, and a job a trial in it: WAITING until a service takes it, RUNNING
while it is tuned, then COMPLETE, or FAIL where it failed or was cancelled. Optuna makes a waiting
trial a running one for one process only, so several machines can serve one queue.
"""

import dataclasses
import enum
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotuner.study.crew import GRACE_S, is_alive

QUEUE = "autotune-queue"
"""The name of the queue's study; lists of studies leave it out."""

MOST_WAITING = 100
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

    ``script``: relative to the service's folder of models. ``python``: one of its interpreters.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A submission in the queue.

    ``part``: which part of it is done, from 0 to 1. ``said``: the latest news, or how it ended.
    ``by``: the name of the token that has submitted it. ``cancel``: its end is wanted.
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
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return [_job(trial) for trial in trials if "submission" in trial.user_attrs]

    def latest(self, study: str) -> Job | None:
        """Return the latest job of a study."""
        found = (job for job in reversed(self.jobs()) if job.submission.study == study)
        return next(found, None)

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
            number = self._add(submission, by)
            # two may have been submitted at once: all see them in the same order
            known = _active(self.jobs(), submission.study)
            if known is not None and known.number == number:
                return known, True
            self._end(number, State.CANCELLED, "it was submitted twice at once")
        if known is None or known.submission != submission:
            raise BusyStudyError
        return known, False

    def _add(self, submission: Submission, by: str, **more: object) -> int:
        attributes = {
            "submission": json.dumps(dataclasses.asdict(submission)),
            "by": by,
            "submitted": datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        }
        template = create_trial(state=TrialState.WAITING, user_attrs=attributes)
        trial_id = self._storage.create_new_trial(self._study_id, template)
        return self._storage.get_trial_number_from_id(trial_id)

    def take(self, signature: str) -> Job | None:
        """Take the oldest job that waits; None if there is none.

        Args:
            signature: who takes it.
        """
        for job in self.jobs():
            trial_id = self._id(job.number)
            if job.state is State.QUEUED and self._starts(trial_id):
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
        news = json.dumps([round(part, 4), said[:_MOST_SAID]])
        self._storage.set_trial_user_attr(self._id(job.number), "news", news)

    def finish(self, job: Job, state: State, said: str) -> None:
        """Note how a job has ended."""
        self._end(job.number, state, said)

    def _end(self, number: int, state: State, said: str) -> None:
        trial_id = self._id(number)
        done = state is State.DONE
        news = json.dumps([1.0 if done else 0.0, said[:_MOST_SAID]])
        try:
            self._storage.set_trial_user_attr(trial_id, "news", news)
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

    def is_cancelled(self, job: Job) -> bool:
        """Tell whether a job's end is wanted."""
        trial = self._storage.get_trial(self._id(job.number))
        return bool(trial.user_attrs.get("cancel", False))

    def put_back(self, job: Job, why: str) -> None:
        """Let a job that runs wait again, for another process.

        It is added anew before it ends: a kill in between leaves two, of which the second finds
        nothing left to do, where the other order would leave none.
        """
        if not self._is_again(job.number):
            self._add(job.submission, job.by, again_of=job.number)
        self._end(job.number, State.FAILED, f"put back into the queue: {why}")

    def _is_again(self, number: int) -> bool:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return any(trial.user_attrs.get("again_of") == number for trial in trials)

    def sweep(self) -> int:
        """Put jobs back whose process has died; return how many."""
        attributes, swept = self.study.user_attrs, 0
        for trial in self._storage.get_all_trials(
            self._study_id, deepcopy=False, states=(TrialState.RUNNING,)
        ):
            if "submission" not in trial.user_attrs:
                continue
            owner = trial.user_attrs.get("owner", "")
            if is_alive(owner, attributes) or (not owner and _is_young(trial)):
                continue
            job = _job(trial)
            if job.cancel:
                self.finish(job, State.CANCELLED, "cancelled; its service had died")
            else:
                self.put_back(job, "its service died")
            swept += 1
        return swept

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


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


def visible(names: list[str]) -> Iterator[str]:
    """Yield the names of studies that are not the queue."""
    yield from (name for name in names if name != QUEUE)
