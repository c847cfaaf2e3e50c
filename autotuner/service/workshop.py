"""Works off the queue: one ``autotune run`` after the other, each in a process of its own.

So a tuning that crashes takes nothing with it, and one that is cut off goes on by the same command.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from autotuner.service.jobs import Job, Queue, State, Submission
from autotuner.service.scripts import ForbiddenScriptError, find_script
from autotuner.study.crew import Crew
from autotuner.trial.prctl import die_with_parent

_LOOK_S = 1.0
_NOTE_EVERY_S = 1.0
_END_S = 60.0
_JOB_LIMIT_S = 7 * 86400.0
_LAST_LINES = 20
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
    return {**kept, "AUTOTUNE_STORAGE": storage_url, "PYTHONUNBUFFERED": "1"}


def command_of(submission: Submission, script: Path, limits: Iterable[str]) -> list[str]:
    """Return the command line of ``autotune run`` for a submission; no shell ever sees it.

    Args:
        submission: what was submitted.
        script: the script's path.
        limits: further options of ``run`` that the service was started with.
    """
    given = {
        "--python": submission.python,
        "--effort": submission.effort,
        "--objective": submission.objective,
        "--knobs": ",".join(submission.knobs) or None,
        "--trials": None if submission.trials is None else str(submission.trials),
        "--budget": submission.budget,
    }
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    return [
        *(sys.executable, "-m", "autotuner", "run"),
        *(f"--model={script}", f"--study={submission.study}", "--json", "--wait"),
        *options,
        *limits,
        "--",
        *submission.arguments,
    ]


@dataclasses.dataclass(kw_only=True)
class _News:
    """What a run has said of itself. ``ended``: what it has come to; ``failed``: why it has not."""

    part: float = 0.0
    said: str = "starting"
    ended: str | None = None
    failed: str | None = None

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one event of ``autotune run --json``."""
        match event.get("event"):
            case "progress":
                self.part = float(event["done"])
            case "message":
                self.said = str(event["text"])
            case "trial_started":
                self.said = f"trial {event['number']} ({event['role']})"
            case "error":
                hint = f" ({event['hint']})" if event.get("hint") else ""
                self.failed = f"{event['message']}{hint}"
            case "result":
                self.ended = str(event["best"]["result"]["sentence"])


class Workshop:
    """Takes jobs from the queue and tunes them, one at a time.

    Args:
        jobs: the queue.
        crew: signs for what this process has taken.
        models: the folder of scripts.
        home: where runs keep their ``.autotune``.
        environment: of runs, see :func:`environment_of_runs`.
        limits: further options of ``autotune run``.
        say: hears what goes on.
    """

    def __init__(
        self,
        jobs: Queue,
        crew: Crew,
        *,
        models: Path,
        home: Path,
        environment: Mapping[str, str],
        limits: Iterable[str],
        say: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._crew = crew
        self._models = models
        self._home = home
        self._environment = dict(environment)
        self._limits = tuple(limits)
        self._say = say
        self._over = threading.Event()

    def stop(self) -> None:
        """Take no more jobs, and put the one that runs back into the queue."""
        self._over.set()

    def run(self) -> None:
        """Work until it is stopped; a database that fails for a while is waited for."""
        while not self._over.is_set():
            try:
                self._jobs.sweep()
                job = self._jobs.take(self._crew.me.signature(_JOB_LIMIT_S))
                if job is not None:
                    self._tune(job)
                    continue
            except (OptunaError, SQLAlchemyError) as error:
                self._say(f"the database failed: {error}")
            self._over.wait(_LOOK_S)

    def _tune(self, job: Job) -> None:
        study = job.submission.study
        self._say(f"job {job.number}: study {study} begins")
        try:
            script = find_script(self._models, job.submission.script)
        except ForbiddenScriptError as error:
            self._jobs.finish(job, State.FAILED, str(error))
            return
        folder = self._home / ".autotune"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"job-{job.number}.log").open("wb") as log:
            process = subprocess.Popen(
                command_of(job.submission, script, self._limits),
                cwd=self._home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
            news, cancelled = self._follow(job, process)
        code = process.returncode
        self._say(f"job {job.number}: study {study} ended with {code}")
        if cancelled:
            self._jobs.finish(job, State.CANCELLED, "cancelled; what was measured is kept")
        elif self._over.is_set() and code != 0:
            self._jobs.put_back(job, "the service was stopped")
        elif code == 0 and news.ended is not None:
            self._jobs.finish(job, State.DONE, news.ended)
        else:
            self._jobs.finish(job, State.FAILED, news.failed or f"autotune run ended with {code}")

    def _follow(self, job: Job, process: "subprocess.Popen[bytes]") -> tuple[_News, bool]:
        """Keep the queue informed until the run ends; end it if that is wanted."""
        lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        news, noted_at, cancelled, at_end = _News(), 0.0, False, False
        until: float | None = None
        while not at_end:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=_LOOK_S)
                at_end = line is None
                with contextlib.suppress(ValueError):
                    news.hear(json.loads(line or b"{}"))
            now = time.monotonic()
            if now - noted_at < _NOTE_EVERY_S:
                continue
            noted_at = now
            self._jobs.note(job, part=news.part, said=news.said)
            cancelled = cancelled or self._jobs.is_cancelled(job)
            if until is None and (cancelled or self._over.is_set()):
                process.send_signal(signal.SIGTERM)
                until = now + _END_S
            elif until is not None and now > until:
                process.kill()
        process.wait()
        return news, cancelled


def _read(process: "subprocess.Popen[bytes]", lines: "queue.Queue[bytes | None]") -> None:
    assert process.stdout is not None
    with process.stdout as stdout:
        for line in stdout:
            lines.put(line)
    lines.put(None)


def home_folder() -> Path:
    """Return the folder in which runs keep their files: where the service was started."""
    return Path(os.getcwd())
