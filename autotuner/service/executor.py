"""Works off the queue: one ``autotune run`` after the other, each in a process of its own.

So a tuning that crashes takes nothing with it, and one that is cut off goes on by the same command.
"""

import contextlib
import dataclasses
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from autotuner.service.queue import Job, Queue, State, Submission
from autotuner.service.scripts import ForbiddenScriptError, find_script
from autotuner.study.storage import database_problem
from autotuner.study.workers import Workers
from autotuner.trial.supervised import Lines, die_with_parent

_LOGGER = logging.getLogger("autotune.service")
_LOOK_S = 1.0
_END_S = 60.0
_JOB_LIMIT_S = 7 * 86400.0
_LAST_BYTES = 500
# what a process needs of the service's environment to run at all; anything else is asked for
_KEPT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
    *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "AUTOTUNE_LOCK"),
)


def environment_of_runs(
    environment: Mapping[str, str], asked: Iterable[str], storage_url: str
) -> dict[str, str]:
    """Return the environment of ``autotune run``: built, not inherited.

    It hands on what trials see, but for the storage's URL, which may hold a password.

    Args:
        environment: the service's.
        asked: further variables that trials are to see.
        storage_url: where the studies are.
    """
    names = {*_KEPT, *asked, *(name for name in environment if name.startswith("LC_"))}
    kept = {name: value for name, value in environment.items() if name in names}
    return {**kept, "AUTOTUNE_STORAGE": storage_url}


def command_of(
    submission: Submission, script: Path, python: str | None, limits: Iterable[str]
) -> list[str]:
    """Return the command line of ``autotune run`` for a submission; no shell ever sees it.

    Args:
        submission: what was submitted.
        script: the script's path.
        python: the path of the interpreter that was asked for.
        limits: further options of ``run`` that the service was started with.
    """
    given = {
        "--python": python,
        "--effort": submission.effort,
        "--objective": submission.objective,
        "--knobs": ",".join(submission.knobs) or None,
        "--trials": submission.trials,
        "--budget": submission.budget,
        "--pairs": submission.pairs,
        "--measure-time": submission.measure_time,
    }
    return [
        # -P: nothing in the working directory, which may hold scripts, is imported by us
        *(sys.executable, "-P", "-m", "autotuner", "run"),
        *(f"--model={script}", f"--study={submission.study}", "--json", "--wait"),
        *(f"{name}={value}" for name, value in given.items() if value is not None),
        *limits,
        "--",
        *submission.arguments,
    ]


@dataclasses.dataclass(kw_only=True)
class _News:
    """What a run has said of itself.

    ``ended``: what it has come to, and ``tuned``: in which study; ``failed``: why it has not,
    and ``hint``: what to do on this machine.
    """

    part: float = 0.0
    said: str = "starting"
    ended: str | None = None
    tuned: str = ""
    failed: str | None = None
    hint: str = ""

    def hear(self, line: bytes) -> None:
        """Take in one line of ``autotune run --json``; what is none is of no interest."""
        try:
            event = json.loads(line)
        except ValueError:
            return
        match event:
            case {"event": "progress", "done": done}:
                self.part = float(done)
            case {"event": "message", "text": text}:
                self.said = str(text)
            case {"event": "trial_started", "number": number, "role": role}:
                self.said = f"trial {number} ({role})"
            case {"event": "error", "message": message, "hint": hint}:
                # what a script has printed last stays in its log
                self.failed, self.hint = str(message).split("\n")[0], str(hint or "")
            case {"event": "result", "best": {"study": study, "result": {"sentence": sentence}}}:
                self.ended, self.tuned = str(sentence), str(study)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ending:
    """How a run has ended. ``wanted``: it was not cancelled; ``last``: its last words."""

    news: _News
    code: int
    wanted: bool
    last: str

    @property
    def reason(self) -> str:
        """Why there is no result."""
        return self.news.failed or self.last or f"autotune run ended with {self.code}"


class Workshop:
    """Takes jobs from the queue and tunes them, one at a time.

    Args:
        jobs: the queue.
        workers: signs for what this process has taken.
        models: the folder of scripts.
        home: where runs keep their ``.autotune``.
        interpreters: paths by the names under which they may be asked for.
        environment: of runs, see :func:`environment_of_runs`.
        limits: further options of ``autotune run``.
        say: hears what goes on.
    """

    def __init__(
        self,
        jobs: Queue,
        workers: Workers,
        *,
        models: Path,
        home: Path,
        interpreters: Mapping[str, str],
        environment: Mapping[str, str],
        limits: Iterable[str],
        say: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._crew = workers
        self._models = models
        self._home = home
        self._interpreters = dict(interpreters)
        self._environment = dict(environment)
        self._limits = tuple(limits)
        self._say = say
        self._complaint = ""
        self._over = threading.Event()

    def stop(self) -> None:
        """Take no more jobs, and put the one that runs back into the queue."""
        self._over.set()

    def run(self) -> None:
        """Work until it is stopped; a database that fails for a while is waited for."""
        while not self._over.is_set():
            if not self._work():
                self._over.wait(_LOOK_S)

    def _work(self) -> bool:
        """Do the next job; return whether there was one."""
        try:
            self._jobs.sweep(self._crew.me.key)
            job = self._jobs.take(self._crew.me.signature(_JOB_LIMIT_S))
            self._complaint = ""
            if job is not None:
                self._tune(job)
        except Exception as error:  # noqa: BLE001 - without this thread nothing would be tuned
            self._complain(error)
            return False
        return job is not None

    def _complain(self, error: Exception) -> None:
        """Say once what does not work: it is tried again every second."""
        complaint = database_problem(error) or repr(error)
        if complaint == self._complaint:
            return
        self._complaint = complaint
        if isinstance(error, OptunaError | SQLAlchemyError):
            self._say(complaint)
        else:
            _LOGGER.error("a bug in autotune", exc_info=error)

    def _tune(self, job: Job) -> None:
        self._say(f"job {job.number}: study {job.submission.study} begins")
        try:
            ending = self._run(job, self._command(job.submission))
        except (ForbiddenScriptError, OSError) as error:
            self._jobs.finish(job, State.FAILED, str(error))
            self._say(f"job {job.number}: failed: {str(error)!a}")
            return
        news = ending.news
        if not ending.wanted:
            self._jobs.finish(job, State.CANCELLED, "cancelled; what was measured is kept")
        elif self._over.is_set() and ending.code != 0:
            self._jobs.put_back(job, "the service was stopped")
        elif ending.code == 0 and news.ended is not None:
            self._jobs.finish(job, State.DONE, news.ended, tuned=news.tuned)
        else:
            reason = ending.reason.replace(f"{self._models.resolve()}/", "")
            self._jobs.finish(job, State.FAILED, reason)
            self._say(f"job {job.number}: failed: {reason!a} {news.hint!a}")
        self._say(f"job {job.number}: study {job.submission.study} ended with {ending.code}")

    def _command(self, submission: Submission) -> list[str]:
        """Return how to run a submission; it may have been taken in by another service."""
        script = find_script(self._models, submission.script)
        python = submission.python
        if python is not None and python not in self._interpreters:
            raise ForbiddenScriptError(f"python: this service has no interpreter {python}")
        path = None if python is None else self._interpreters[python]
        return command_of(submission, script, path, self._limits)

    def _run(self, job: Job, argv: Sequence[str]) -> _Ending:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0), tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    argv,
                    cwd=self._home,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=errors,
                    start_new_session=True,
                    # of this thread, which lives as long as the run
                    preexec_fn=die_with_parent,  # noqa: PLW1509
                )
            finally:
                os.close(writing)
            try:
                news, wanted = self._follow(job, process, Lines(reading))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_S)
            finally:
                process.kill()  # nothing of it is left, whatever has happened
                process.wait()
            return _Ending(
                news=news, code=process.returncode, wanted=wanted, last=_last_line(errors)
            )

    def _follow(
        self, job: Job, process: "subprocess.Popen[bytes]", lines: Lines
    ) -> tuple[_News, bool]:
        """Keep the queue informed until the run ends; end it if that is wanted.

        Returns:
            what it has said, and whether it was wanted to the end.
        """
        news, noted, wanted = _News(), _News(), True
        look_at, kill_at = 0.0, None
        while not lines.at_end:
            ready = select.select([lines.descriptor], [], [], _LOOK_S)[0]
            for line in lines.read():
                news.hear(line)
            if not ready and process.poll() is not None:
                break  # somebody else holds the pipe
            now = time.monotonic()
            if now >= look_at:
                look_at = now + _LOOK_S
                wanted = wanted and self._inform(job, news, noted)
                noted = dataclasses.replace(news)
            if kill_at is None and (self._over.is_set() or not wanted):
                process.terminate()
                kill_at = now + _END_S
            elif kill_at is not None and now >= kill_at:
                process.kill()
        return news, wanted

    def _inform(self, job: Job, news: _News, noted: _News) -> bool:
        """Note what is new, and return whether the job is still wanted."""
        try:
            if news != noted:
                self._jobs.note(job, part=news.part, said=news.said)
            return self._jobs.is_wanted(job)
        except (OptunaError, SQLAlchemyError) as error:
            self._complain(error)
            return True  # so the run goes on: it waits for the database itself


def _last_line(errors: IO[bytes]) -> str:
    """Return the last line of what a process has written to its standard error."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _LAST_BYTES))
    lines = errors.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
