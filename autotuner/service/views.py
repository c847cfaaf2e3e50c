"""Studies as the service shows them: from the queue and from the studies themselves."""

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Mapping

from autotuner.export.content import export_of
from autotuner.export.formats import FILE_NAMES, RENDERERS
from autotuner.report.page import render_page
from autotuner.service.queue import ACTIVE, Job, JobState, Queue, latest_jobs
from autotuner.study.bulk import count_trials, read_extent, read_trials
from autotuner.study.memory import SUMMARY, read_all, read_one
from autotuner.study.queue_store import is_of_queue, visible
from autotuner.study.storage import Storage
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
    """A study as the service shows it.

    ``state``: of its latest job; ``idle`` where it was not submitted here. ``progress``: the part
    that is done, from 0 to 1. ``message``: the latest news. ``result``: the verdict in a few words,
    None while nothing was measured. ``script``: relative to the folder of models, None where not
    submitted. ``submitted_by``: the name of the token.
    """

    name: str
    state: str
    progress: float
    message: str
    result: str | None
    trials: int
    script: str | None
    submitted: str | None
    submitted_by: str | None

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
    """A file that clients fetch. ``etag`` changes with its content."""

    body: bytes
    etag: str
    media_type: str


class NotMeasuredError(Exception):
    """There is nothing to fetch yet."""


class Views:
    """Reads queue and studies of one storage; documents are rendered once for each state."""

    def __init__(self, storage: Storage, queue: Queue) -> None:
        self._storage = storage
        self._queue = queue
        self._documents: OrderedDict[tuple[object, ...], Document] = OrderedDict()

    def all(self) -> list[StudyView]:
        """Return all studies, the latest submissions first."""
        latest, counts = latest_jobs(self._queue.jobs()), count_trials(self._storage)
        results = {n: one.text for n, one in read_all(self._storage, SUMMARY).items()}
        submitted = sorted(latest.values(), key=lambda job: job.number, reverse=True)
        shown = {*latest, *(job.tuned for job in submitted)}
        return [
            *(_view_of_job(job, counts, results) for job in submitted),
            *(_view(name, counts, results) for name in visible(counts) if name not in shown),
        ]

    def one(self, name: str) -> StudyView | None:
        """Return one study; None if there is none of that name, or another study's result is in it.

        It is looked up: with many studies, :meth:`all` takes a hundred times as long.
        """
        latest = latest_jobs(self._queue.jobs())
        job = latest.get(name)
        if job is None and any(one.tuned == name for one in latest.values()):
            return None
        tuned = name if job is None else _tuned_name(job)
        extent = None if is_of_queue(tuned) else read_extent(self._storage, tuned)
        counts = {} if extent is None else {tuned: extent.trials}
        summary = None if extent is None else read_one(self._storage, tuned, SUMMARY)
        results = {} if summary is None else {tuned: summary.text}
        if job is not None:
            return _view_of_job(job, counts, results)
        return None if extent is None else _view(name, counts, results)

    def document(self, name: str, file: str) -> Document:
        """Return a file of a study that exists.

        Raises:
            NotMeasuredError: if it has not been measured, or is being tuned.
        """
        job = self._queue.latest(name)
        if job is not None and job.is_active:
            waits = "waits in the queue" if job.state is JobState.QUEUED else "is being tuned"
            raise NotMeasuredError(f"study {name} {waits}")
        tuned = name if job is None else _tuned_name(job)
        extent = read_extent(self._storage, tuned)
        if extent is None:
            raise NotMeasuredError(f"study {name}: nothing was measured")
        ended = extent.ended
        key = (tuned, file, extent)
        found = self._documents.get(key)
        if found is None:
            study = load_study(self._storage, tuned)
            result = load_result(study, read_trials(self._storage, study))
            if result is None:
                raise NotMeasuredError(f"study {tuned}: the defaults were not measured yet")
            if ended is not None:  # so that the document changes only with the trials
                result = dataclasses.replace(result, as_of=ended.astimezone())
            found = self._documents[key] = _render(result, file)
            if len(self._documents) > _MOST_KEPT:
                self._documents.popitem(last=False)
        return found


def _tuned_name(job: Job) -> str:
    """Return the name of the study in which a job's result is, or will be."""
    return job.tuned or job.submission.study


def _view_of_job(job: Job, counts: Mapping[str, int], results: Mapping[str, str]) -> StudyView:
    tuned = _tuned_name(job)
    return StudyView(
        name=job.submission.study,
        state=job.state.value,
        progress=job.progress,
        message=job.message,
        result=results.get(tuned),
        trials=counts.get(tuned, 0),
        script=job.submission.script,
        submitted=job.submitted,
        submitted_by=job.submitted_by,
    )


def _view(name: str, counts: Mapping[str, int], results: Mapping[str, str]) -> StudyView:
    return StudyView(
        name=name,
        state=IDLE,
        progress=0.0,
        message="",
        result=results.get(name),
        trials=counts[name],
        script=None,
        submitted=None,
        submitted_by=None,
    )


def _render(result: Result, file: str) -> Document:
    body = _text(result, file).encode()
    digest = hashlib.sha256(body).hexdigest()[:32]
    return Document(body, f'"{digest}"', MEDIA_TYPES[file])


def _text(result: Result, file: str) -> str:
    if file == REPORT:
        return render_page(result)
    return RENDERERS[_FORMATS[file]](export_of(result, anyway=False))
