"""What the service tells of studies: from the queue and from the studies themselves."""

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime

import optuna
from optuna.storages import BaseStorage

from autotuner.export.formats import FILE_NAMES, RENDERERS, Format
from autotuner.report.contents import Contents, gather
from autotuner.report.page import render_page
from autotuner.service.jobs import Job, Queue, State, visible
from autotuner.study.opening import load_study
from autotuner.study.record import read_study_facts, read_summary
from autotuner.study.stored import AnyTrial, count_trials, read_trials

_MOST_KEPT = 64
REPORT = "report.html"
FILES = {name: kind for kind, name in FILE_NAMES.items()}
MEDIA_TYPES = {
    "best.env": "text/plain; charset=utf-8",
    "best.py": "text/x-python; charset=utf-8",
    "best.json": "application/json",
    REPORT: "text/html; charset=utf-8",
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
        latest: dict[str, Job] = {job.submission.study: job for job in self._jobs.jobs()}
        counts = count_trials(self._storage)
        others = [name for name in visible(list(counts)) if name not in latest]
        names = [*reversed(sorted(latest, key=lambda name: latest[name].number)), *others]
        return [self._view(name, latest.get(name), counts.get(name, 0)) for name in names]

    def one(self, name: str) -> StudyView | None:
        """Return a study; None if there is none of that name."""
        job, counts = self._jobs.latest(name), count_trials(self._storage)
        known = name in set(visible(list(counts)))
        return self._view(name, job, counts.get(name, 0)) if job or known else None

    def _view(self, name: str, job: Job | None, trials: int) -> StudyView:
        result = None
        if trials:
            noted = read_summary(load_study(self._storage, name))
            result = None if noted is None else noted[0]
        return StudyView(
            name=name,
            state="idle" if job is None else job.state.value,
            part=0.0 if job is None else job.part,
            said="" if job is None else job.said,
            result=result,
            trials=trials,
            script=None if job is None else job.submission.script,
            submitted=None if job is None else job.submitted,
            by=None if job is None else job.by,
        )

    def document(self, name: str, file: str) -> Document:
        """Return a file of a study.

        Raises:
            NotMeasuredError: if it has not been measured, or is being tuned.
        """
        job = self._jobs.latest(name)
        if job is not None and job.is_active:
            waits = "waits in the queue" if job.state is State.QUEUED else "is being tuned"
            raise NotMeasuredError(f"study {name} {waits}")
        study = load_study(self._storage, name)
        if read_study_facts(study) is None:
            raise NotMeasuredError(f"study {name}: nothing was measured yet")
        trials = read_trials(self._storage, study)
        ended = max((t.datetime_complete for t in trials if t.datetime_complete), default=None)
        key = (name, file, len(trials), ended)
        if key not in self._documents:
            self._documents[key] = self._render(study, file, trials, ended)
            if len(self._documents) > _MOST_KEPT:
                self._documents.popitem(last=False)
        return self._documents[key]

    def _render(
        self,
        study: optuna.Study,
        file: str,
        trials: Sequence[AnyTrial],
        ended: datetime | None,
    ) -> Document:
        contents = gather(study, trials)
        if contents is None:
            raise NotMeasuredError(f"study {study.study_name}: the defaults were not measured yet")
        text = _text(_as_of(contents, ended), file)
        body = text.encode()
        digest = hashlib.sha256(body).hexdigest()[:32]
        return Document(body, f'"{digest}"', MEDIA_TYPES[file])


def _as_of(contents: Contents, ended: datetime | None) -> Contents:
    """Return what there is to say with the time of the last trial: the same as long as it is."""
    if ended is None:
        return contents
    export = dataclasses.replace(contents.export, created=ended.astimezone())
    return dataclasses.replace(contents, export=export)


def _text(contents: Contents, file: str) -> str:
    if file == REPORT:
        return render_page(contents)
    return RENDERERS[Format(FILES[file])](contents.export)
