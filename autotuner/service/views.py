"""What the service tells of studies: from the queue and from the studies themselves."""

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime

import optuna
from optuna.storages import BaseStorage

from autotuner.export.content import export_of
from autotuner.export.formats import FILE_NAMES, RENDERERS
from autotuner.report.page import render_page
from autotuner.service.queue import ACTIVE, Job, Queue, State, latest_jobs, visible
from autotuner.study.bulk import AnyTrial, count_trials, read_trials
from autotuner.study.memory import SUMMARY, read_all
from autotuner.study.studies import load_study
from autotuner.verdict.result import Result, load_result

IDLE = "idle"
"""The state of a study that was not submitted here."""

_MOST_KEPT = 64
REPORT = "report.html"
_FORMATS = {name: kind for kind, name in FILE_NAMES.items()}
MEDIA_TYPES = {
    REPORT: "text/html; charset=utf-8",
    "best.env": "text/plain; charset=utf-8",
    "best.py": "text/x-python; charset=utf-8",
    "best.json": "application/json",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study as the service tells of it.

    ``state``: of its latest job; ``idle`` where it was not submitted here. ``part``: which part is
    done, from 0 to 1. ``said``: the latest news. ``result``: the verdict in a few words, None while
    nothing was measured. ``script``: relative to the folder of models, None where not submitted.
    """

    name: str
    state: str
    part: float
    said: str
    result: str | None
    trials: int
    script: str | None
    submitted: str | None
    by: str | None

    @property
    def is_active(self) -> bool:
        """Whether it waits or is being tuned."""
        return self.state in ACTIVE

    @property
    def has_files(self) -> bool:
        """Whether there is something to fetch."""
        return self.result is not None and not self.is_active


@dataclasses.dataclass(frozen=True)
class Document:
    """A file to be fetched; ``etag`` is another one when its content is another one."""

    body: bytes
    etag: str
    media_type: str


class NotMeasuredError(Exception):
    """There is nothing to fetch yet."""


class Views:
    """Reads queue and studies of one storage; documents are rendered once for each state."""

    def __init__(self, storage: BaseStorage, jobs: Queue) -> None:
        self._storage = storage
        self._jobs = jobs
        self._documents: OrderedDict[tuple[object, ...], Document] = OrderedDict()

    def all(self) -> list[StudyView]:
        """Return all studies, the latest submissions first."""
        latest, counts = latest_jobs(self._jobs.jobs()), count_trials(self._storage)
        results = {n: one.text for n, one in read_all(self._storage, SUMMARY).items()}
        submitted = sorted(latest.values(), key=lambda job: job.number, reverse=True)
        shown = {*latest, *(job.tuned for job in submitted)}
        return [
            *(_view_of_job(job, counts, results) for job in submitted),
            *(_view(name, counts, results) for name in visible(counts) if name not in shown),
        ]

    def one(self, name: str) -> StudyView | None:
        """Return a study; None if there is none of that name."""
        return next((view for view in self.all() if view.name == name), None)

    def document(self, name: str, file: str) -> Document:
        """Return a file of a study that there is.

        Raises:
            NotMeasuredError: if it has not been measured, or is being tuned.
        """
        job = self._jobs.latest(name)
        if job is not None and job.is_active:
            waits = "waits in the queue" if job.state is State.QUEUED else "is being tuned"
            raise NotMeasuredError(f"study {name} {waits}")
        tuned = name if job is None else _tuned_name(job)
        if tuned not in count_trials(self._storage):
            raise NotMeasuredError(f"study {name}: nothing was measured")
        study = load_study(self._storage, tuned)
        trials = read_trials(self._storage, study)
        ended = max((t.datetime_complete for t in trials if t.datetime_complete), default=None)
        key = (tuned, file, len(trials), ended)
        found = self._documents.get(key)
        if found is None:
            found = self._documents[key] = _render(study, file, trials, ended)
            if len(self._documents) > _MOST_KEPT:
                self._documents.popitem(last=False)
        return found


def _tuned_name(job: Job) -> str:
    """Return the name of the study that a job is about, or has come to."""
    return job.tuned or job.submission.study


def _view_of_job(job: Job, counts: Mapping[str, int], results: Mapping[str, str]) -> StudyView:
    tuned = _tuned_name(job)
    return StudyView(
        name=job.submission.study,
        state=job.state.value,
        part=job.part,
        said=job.said,
        result=results.get(tuned),
        trials=counts.get(tuned, 0),
        script=job.submission.script,
        submitted=job.submitted,
        by=job.by,
    )


def _view(name: str, counts: Mapping[str, int], results: Mapping[str, str]) -> StudyView:
    return StudyView(
        name=name,
        state=IDLE,
        part=0.0,
        said="",
        result=results.get(name),
        trials=counts[name],
        script=None,
        submitted=None,
        by=None,
    )


def _render(
    study: optuna.Study, file: str, trials: Sequence[AnyTrial], ended: datetime | None
) -> Document:
    result = load_result(study, trials)
    if result is None:
        raise NotMeasuredError(f"study {study.study_name}: the defaults were not measured yet")
    if ended is not None:  # so that the document stays the same until another trial ends
        result = dataclasses.replace(result, as_of=ended.astimezone())
    body = _text(result, file).encode()
    digest = hashlib.sha256(body).hexdigest()[:32]
    return Document(body, f'"{digest}"', MEDIA_TYPES[file])


def _text(result: Result, file: str) -> str:
    if file == REPORT:
        return render_page(result)
    return RENDERERS[_FORMATS[file]](export_of(result, anyway=False))
