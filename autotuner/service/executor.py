"""The executor takes jobs from the queue: one ``autotune run`` at a time, each in its own process.

So a crash of a run does not end the service, and the same command resumes a run that was cut off.
"""

import contextlib
import dataclasses
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from autotuner.errors import UserError
from autotuner.options.study_spec import StudySpec
from autotuner.options.table import spec_from_given, to_argv, to_given
from autotuner.service.queue import Job, JobState, Queue, Submission
from autotuner.service.scripts import ForbiddenScriptError, find_script
from autotuner.study.identity import model_digest
from autotuner.study.storage import STORAGE_ERRORS, database_problem
from autotuner.study.workers import Workers
from autotuner.trial.supervised import Lines, die_with_parent

_LOGGER = logging.getLogger("autotune.service")
_LOOK_S = 1.0
_END_S = 60.0
_JOB_LIMIT_S = 7 * 86400.0
_LAST_BYTES = 500
# what any process needs of the service's environment; the user names all other variables
_KEPT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
    *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "AUTOTUNE_LOCK"),
)


def environment_of_runs(
    environment: Mapping[str, str], passed: Iterable[str], storage_url: str
) -> dict[str, str]:
    """Return the environment of ``autotune run``: built, not inherited.

    Trials see all of it but the storage's URL, which may hold a password.

    Args:
        environment: the service's.
        passed: further variables for trials.
        storage_url: where the studies are.
    """
    names = {*_KEPT, *passed, *(name for name in environment if name.startswith("LC_"))}
    kept = {name: value for name, value in environment.items() if name in names}
    return {**kept, "AUTOTUNE_STORAGE": storage_url}


def command_of(
    submission: Submission, script: Path, python: str | None, limits: Iterable[str]
) -> list[str]:
    """Return the command line of ``autotune run`` for a submission; no shell reads it.

    Args:
        submission: what was submitted.
        script: the script's path.
        python: the path of the interpreter, None for the service's own.
        limits: further options of ``run`` that the service was started with.

    Raises:
        UserError: if the stored submission holds a wrong value.
    """
    base = StudySpec(model=script, python=None if python is None else Path(python))
    # only what a request may give, whatever the storage holds: no environment, no other script
    spec = spec_from_given(to_given(submission.spec), base=base)
    return [
        # -P: Python imports nothing from the working directory, which may hold scripts
        *(sys.executable, "-P", "-m", "autotuner", "run", "--json", "--wait"),
        *limits,
        *to_argv(spec),
        "--",
        *spec.arguments,
    ]


@dataclasses.dataclass(kw_only=True)
class _RunStatus:
    """What a run has reported.

    ``result``: its verdict, and ``tuned``: the study that has it. ``error``: why there is no
    result, and ``hint``: what to do on this machine.
    """

    progress: float = 0.0
    message: str = "starting"
    result: str | None = None
    tuned: str = ""
    error: str | None = None
    hint: str = ""

    def read_event(self, line: bytes) -> None:
        """Read one line of ``autotune run --json``; lines that are no JSON are left out."""
        try:
            event = json.loads(line)
        except ValueError:
            return
        match event:
            case {"event": "progress", "done": done}:
                self.progress = float(done)
            case {"event": "message", "text": text}:
                self.message = str(text)
            case {"event": "trial_started", "number": number, "role": role}:
                self.message = f"trial {number} ({role})"
            case {"event": "error", "message": message, "hint": hint}:
                # the first line only: the rest is the script's output, which stays in its log
                self.error, self.hint = str(message).split("\n")[0], str(hint or "")
            case {"event": "result", "best": {"study": study, "result": {"sentence": sentence}}}:
                self.result, self.tuned = str(sentence), str(study)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RunEnd:
    """How a run ended. ``wanted``: it was not cancelled. ``last_line``: of its standard error."""

    status: _RunStatus
    code: int
    wanted: bool
    last_line: str

    @property
    def reason(self) -> str:
        """Why there is no result."""
        return self.status.error or self.last_line or f"autotune run ended with {self.code}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How ``autotune run`` is started for every job.

    ``models``: the folder of scripts. ``home``: the folder ``.autotune``; runs start beside it.
    ``interpreters``: their paths by the names that clients use. ``environment``: see
    :func:`environment_of_runs`. ``limits``: further options of ``run``.
    """

    models: Path
    home: Path
    interpreters: Mapping[str, str]
    environment: Mapping[str, str]
    limits: Sequence[str]


class Executor:
    """Takes jobs from the queue and tunes them, one at a time.

    Args:
        queue: the queue.
        workers: signs the jobs that this process takes.
        settings: how a job is run.
        report: is called with each message for the user.
    """

    def __init__(
        self,
        queue: Queue,
        workers: Workers,
        settings: RunSettings,
        report: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._workers = workers
        self._settings = settings
        self._report = report
        self._reported = ""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Take no more jobs, and put the one that runs back into the queue."""
        self._stopped.set()

    def run(self) -> None:
        """Work until it is stopped; wait while the database fails."""
        while not self._stopped.is_set():
            if not self._work():
                self._stopped.wait(_LOOK_S)

    def _work(self) -> bool:
        """Do the next job; return whether there was one."""
        try:
            self._queue.sweep(self._workers.me.key)
            job = self._queue.take(self._workers.me.signature(_JOB_LIMIT_S))
            self._reported = ""
            if job is not None:
                self._tune(job)
                self._queue.forget()
        except Exception as error:  # noqa: BLE001 - without this thread nothing would be tuned
            self._report_error(error)
            return False
        return job is not None

    def _report_error(self, error: Exception) -> None:
        """Report an error once, though each try, every second, raises it again."""
        problem = database_problem(error) or repr(error)
        if problem == self._reported:
            return
        self._reported = problem
        if isinstance(error, STORAGE_ERRORS):
            self._report(problem)
        else:
            _LOGGER.error("a bug in autotune", exc_info=error)

    def _tune(self, job: Job) -> None:
        self._report(f"job {job.number}: study {job.submission.study} begins")
        try:
            end = self._run(job, self._command(job.submission))
        except (ForbiddenScriptError, UserError, OSError) as error:
            self._queue.finish(job, JobState.FAILED, str(error))
            self._report(f"job {job.number}: failed: {str(error)!a}")
            return
        status = end.status
        if not end.wanted:
            self._queue.finish(job, JobState.CANCELLED, "cancelled; what was measured is kept")
        elif self._stopped.is_set() and end.code != 0:
            self._queue.put_back(job, "the service was stopped")
        elif end.code == 0 and status.result is not None:
            self._queue.finish(job, JobState.DONE, status.result, tuned=status.tuned)
        else:
            reason = end.reason.replace(f"{self._settings.models.resolve()}/", "")
            self._queue.finish(job, JobState.FAILED, reason)
            self._report(f"job {job.number}: failed: {reason!a} {status.hint!a}")
        self._report(f"job {job.number}: study {job.submission.study} ended with {end.code}")

    def _command(self, submission: Submission) -> list[str]:
        """Return the command line of a submission, checked: another service may have queued it."""
        script = find_script(self._settings.models, submission.script)
        if submission.model_sha256 not in (None, model_digest(script)):
            raise ForbiddenScriptError(
                "script: it has changed since it was submitted: submit it again"
            )
        python = submission.python
        if python is not None and python not in self._settings.interpreters:
            raise ForbiddenScriptError(f"python: this service has no interpreter {python}")
        path = None if python is None else self._settings.interpreters[python]
        return command_of(submission, script, path, self._settings.limits)

    def _run(self, job: Job, argv: Sequence[str]) -> _RunEnd:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0), tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    argv,
                    cwd=self._settings.home.absolute().parent,
                    env=dict(self._settings.environment),
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
                status, wanted = self._follow(job, process, Lines(reading))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_S)
            finally:
                process.kill()  # no process is left, whatever was raised
                process.wait()
            return _RunEnd(
                status=status,
                code=process.returncode,
                wanted=wanted,
                last_line=_last_line(errors),
            )

    def _follow(
        self, job: Job, process: "subprocess.Popen[bytes]", lines: Lines
    ) -> tuple[_RunStatus, bool]:
        """Write a run's status into the queue until it ends; end it if the job is cancelled.

        Returns:
            its status, and whether the job was wanted to the end.
        """
        status, noted, wanted = _RunStatus(), _RunStatus(), True
        look_at, kill_at = 0.0, None
        while not lines.at_end:
            ready = select.select([lines.descriptor], [], [], _LOOK_S)[0]
            for line in lines.read():
                status.read_event(line)
            if not ready and process.poll() is not None:
                break  # a process that it has left behind holds the pipe
            now = time.monotonic()
            if now >= look_at:
                look_at = now + _LOOK_S
                _keep_going(process.pid)
                wanted = wanted and self._write_status(job, status, noted)
                noted = dataclasses.replace(status)
            if kill_at is None and (self._stopped.is_set() or not wanted):
                process.terminate()
                kill_at = now + _END_S
            elif kill_at is not None and now >= kill_at:
                process.kill()
        return status, wanted

    def _write_status(self, job: Job, status: _RunStatus, noted: _RunStatus) -> bool:
        """Write a status that has changed, and return whether the job is still wanted."""
        try:
            if status != noted:
                self._queue.note(job, progress=status.progress, message=status.message)
            return self._queue.is_wanted(job)
        except STORAGE_ERRORS as error:
            self._report_error(error)
            return True  # the run goes on: it waits for the database itself


def _keep_going(pid: int) -> None:
    """Continue a run that was stopped: its script may have done that, and the queue would wait."""
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            os.kill(pid, signal.SIGCONT)


def _last_line(errors: IO[bytes]) -> str:
    """Return the last line that a process has written to its standard error."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _LAST_BYTES))
    lines = errors.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
