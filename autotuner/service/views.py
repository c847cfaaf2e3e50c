"""Studies as the service shows them: from the queue and from the studies themselves."""

import dataclasses
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from autotuner import __version__
from autotuner.export.content import export_of
from autotuner.export.formats import FILE_NAMES, RENDERERS
from autotuner.options.names import is_reserved
from autotuner.report.page import render_page
from autotuner.service.queue import ACTIVE, Job, JobState, Queue
from autotuner.study.bulk import StudyState, read_names, read_states, read_trials
from autotuner.study.memory import FACTS, SUMMARY, Key, decode
from autotuner.study.queue_store import visible
from autotuner.study.storage import Storage
from autotuner.study.studies import load_study
from autotuner.verdict.result import RESULT_KEYS, Result, load_result

IDLE = "idle"
"""The state of a study that was not submitted here."""

_MOST_KEPT_BYTES = 32 << 20
_NEW_S = 0.1
REPORT = "report.html"
_REMOVED = "the study was removed since"
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
    """There is nothing to fetch. ``hint``: what to do, if anything helps."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A file of a study as it is now; it need not have been rendered. ``tuned``: the study.

    ``etag`` changes with the study and with the version of autotune.
    """

    tuned: str
    file: str
    ended: datetime | None
    etag: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A part of the list of studies, from ``offset`` on. ``total``: the number of all studies."""

    studies: Sequence[StudyView]
    offset: int
    limit: int
    total: int

    @property
    def before(self) -> int | None:
        """The offset of the page before this one; None of the first."""
        return None if self.offset == 0 else max(0, self.offset - self.limit)

    @property
    def after(self) -> int | None:
        """The offset of the page after this one; None of the last."""
        end = self.offset + self.limit
        return end if end < self.total else None


class Views:
    """Reads queue and studies of one storage; a file is rendered once for each version."""

    def __init__(self, storage: Storage, queue: Queue) -> None:
        self._storage = storage
        self._queue = queue
        self._rendered: OrderedDict[Version, bytes] = OrderedDict()
        self._rendered_bytes = 0
        self._keeping = threading.Lock()

    def count(self) -> int:
        """Return the number of studies."""
        return self.page(limit=0).total

    def page(self, *, limit: int, offset: int = 0) -> Page:
        """Return a part of the list: what waits or runs first, then the latest submissions.

        Args:
            limit: the number of studies, some hundred at most.
            offset: the number of studies before them.
        """
        latest = self._queue.latest()
        submitted = sorted(latest.values(), key=lambda job: (not job.is_active, -job.number))
        known = {*latest, *(job.tuned for job in submitted)}
        others = [n for n in reversed(visible(read_names(self._storage))) if n not in known]
        shown: list[Job | str] = [*submitted, *others]
        part = shown[offset : offset + limit]
        tuned = [one if isinstance(one, str) else _tuned_name(one) for one in part]
        states = read_states(self._storage, tuned, [SUMMARY.name]) if part else {}
        views = [_view(one, states.get(name)) for one, name in zip(part, tuned, strict=True)]
        return Page(studies=views, offset=offset, limit=limit, total=len(shown))

    def one(self, name: str) -> StudyView | None:
        """Return one study; None if there is none of that name, or another study's result is in it.

        It is looked up: with many studies, reading all of them takes a hundred times as long.
        """
        found = self._find(name, [SUMMARY])
        return None if found is None else _view(*found)

    def _find(
        self, name: str, keys: Sequence[Key[Any]]
    ) -> tuple[Job | str, StudyState | None] | None:
        """Return a study's latest job, or its name if there is none, and what is stored of it."""
        found = self._find_among(self._queue.latest(), name, keys)
        if found is None:  # another process may just have submitted it
            found = self._find_among(self._queue.latest(within_s=_NEW_S), name, keys)
        return found

    def _find_among(
        self, latest: Mapping[str, Job], name: str, keys: Sequence[Key[Any]]
    ) -> tuple[Job | str, StudyState | None] | None:
        job = latest.get(name)
        if job is None and any(one.tuned == name for one in latest.values()):
            return None
        tuned = name if job is None else _tuned_name(job)
        state = None
        if not is_reserved(tuned):
            state = read_states(self._storage, [tuned], [key.name for key in keys]).get(tuned)
        return None if job is None and state is None else (job or name, state)

    def version(self, name: str, file: str) -> Version | None:
        """Return the version of a file of a study; None if there is no such study.

        Raises:
            NotMeasuredError: if it has not been measured, or is being tuned.
        """
        found = self._find(name, RESULT_KEYS)
        if found is None:
            return None
        of, state = found
        if isinstance(of, Job) and of.is_active:
            waits = "waits in the queue" if of.state is JobState.QUEUED else "is being tuned"
            raise NotMeasuredError(f"study {name} {waits}", "follow it to its end, then fetch")
        if state is None and isinstance(of, Job) and of.tuned:
            raise NotMeasuredError(f"study {name} was removed since")
        if state is None or FACTS.name not in state.attributes:
            raise NotMeasuredError(f"study {name}: nothing was measured")
        tuned = _tuned_name(of) if isinstance(of, Job) else of
        attributes = sorted(state.attributes.items())
        known = repr((__version__, tuned, file, state.trials, state.ended, attributes))
        etag = f'"{hashlib.sha256(known.encode()).hexdigest()[:32]}"'
        return Version(tuned=tuned, file=file, ended=state.ended, etag=etag)

    def document(self, version: Version) -> Document:
        """Return a file.

        Raises:
            NotMeasuredError: if the study's defaults have not been measured.
        """
        body = self._rendered.get(version)
        if body is None:
            body = self._render(version)
            self._keep(version, body)
        return Document(body, version.etag, MEDIA_TYPES[version.file])

    def _keep(self, version: Version, body: bytes) -> None:
        with self._keeping:
            self._rendered_bytes += len(body) - len(self._rendered.pop(version, b""))
            self._rendered[version] = body
            while self._rendered_bytes > _MOST_KEPT_BYTES:
                self._rendered_bytes -= len(self._rendered.popitem(last=False)[1])

    def _render(self, version: Version) -> bytes:
        study = load_study(self._storage, version.tuned)
        result = load_result(study, read_trials(self._storage, study))
        if result is None:
            raise NotMeasuredError(f"study {version.tuned}: the defaults were not measured yet")
        if version.ended is not None:  # so that the document changes only with the study
            result = dataclasses.replace(result, as_of=version.ended.astimezone())
        return _text(result, version.file).encode()


def _tuned_name(job: Job) -> str:
    """Return the name of the study in which a job's result is, or will be."""
    return job.tuned or job.submission.study


def _view(of: Job | str, state: StudyState | None) -> StudyView:
    """Return a study as it is shown: its latest job, or the name of one that has none."""
    trials = 0 if state is None else state.trials
    result = None if state is None else _summary(state)
    if isinstance(of, Job):
        return StudyView(
            name=of.submission.study,
            state=of.state.value,
            progress=of.progress,
            message=_REMOVED if of.tuned and state is None else of.message,
            result=result,
            trials=trials,
            script=of.submission.script,
            submitted=of.submitted,
            submitted_by=of.submitted_by,
        )
    return StudyView(
        name=of,
        state=IDLE,
        progress=0.0,
        message="",
        result=result,
        trials=trials,
        script=None,
        submitted=None,
        submitted_by=None,
    )


def _summary(state: StudyState) -> str | None:
    text = state.attributes.get(SUMMARY.name)
    found = None if text is None else decode({SUMMARY.name: json.loads(text)}, SUMMARY)
    return None if found is None else found.text


def _text(result: Result, file: str) -> str:
    if file == REPORT:
        return render_page(result)
    return RENDERERS[_FORMATS[file]](export_of(result, anyway=False))
