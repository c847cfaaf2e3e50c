"""The workers of one study: which are alive, and which one leads.

One process runs a study, or many on many machines. They share only Optuna's storage, so each worker
regularly writes a sign of life into the study (Optuna's own heartbeats need ``study.optimize``, and
do not pass its gRPC proxy). A worker without a sign for a minute is taken for dead, and another
worker runs its trial again. Clocks must agree to within half a minute.

On the same machine it is enough to check that the process exists. A study in a file or in memory
has a single worker, as no other machine can reach it; its only sign is written at the beginning.
"""

import contextlib
import dataclasses
import json
import os
import random
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import optuna
import psutil
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

GRACE_S = 60.0
"""The time without a sign of life after which a worker elsewhere is taken for dead."""

_BEAT_S = 15.0
_POLL_S = 1.0
_PRESENT = "worker:"
_LEADER = "leader"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that works on studies; it signs its trials with these fields.

    ``key``: unique. ``boot`` and ``started`` distinguish it from a later process with the same
    number.
    """

    key: str
    host: str
    boot: str
    pid: int
    started: float

    def signature(self, limit_s: float) -> str:
        """Return this worker's signature as JSON, for a trial or a sign of life.

        Args:
            limit_s: the time after which a worker on another machine without a sign of life is
                taken for dead, in seconds.
        """
        fields = {**dataclasses.asdict(self), "until": round(time.time() + limit_s)}
        return json.dumps(fields)


def this_worker() -> Worker:
    """Return this process as a worker with a new key."""
    process = psutil.Process()
    return Worker(
        key=uuid.uuid4().hex[:12],
        host=socket.gethostname(),
        boot=_boot_id(),
        pid=os.getpid(),
        started=round(process.create_time(), 2),
    )


def is_alive(signature: str, attributes: Mapping[str, Any]) -> bool:
    """Return whether the worker of a signature is alive; on another machine, whether it may be.

    Args:
        signature: as :meth:`Worker.signature` returned it.
        attributes: of the study, with the workers' signs of life.
    """
    try:
        fields = json.loads(signature)
        if fields["host"] != socket.gethostname():
            present = attributes.get(_PRESENT + fields["key"])
            until = fields["until"] if present is None else json.loads(present)["until"]
            return bool(time.time() < until)
        process = psutil.Process(fields["pid"])
        same_start = abs(process.create_time() - fields["started"]) < 1
        # an ended process stays a zombie until its parent waits, in a container maybe for ever
        ended = process.status() == psutil.STATUS_ZOMBIE
        return bool(fields["boot"] == _boot_id() and same_start and not ended)
    except (ValueError, KeyError, TypeError, psutil.Error):
        return False


def worker_name(signature: str) -> str:
    """Return a signature's worker as text for the user."""
    try:
        fields = json.loads(signature)
        return f"process {fields['pid']} on {fields['host']}, boot {fields['boot'][:8]}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def living(attributes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the fields of the signs of life of a study's living workers, by key."""
    found = {}
    for name, text in attributes.items():
        if name.startswith(_PRESENT) and text is not None and is_alive(text, attributes):
            found[name.removeprefix(_PRESENT)] = json.loads(text)
    return found


class Workers:
    """The workers of a study, as seen by one of them, which is alive while the context lasts.

    Args:
        study: the study.
        shared: other workers can reach the study. If not, this one is alone.
        machine: the name of this machine in the study.
        remark: called with a sentence if a sign of life can't be written.
        poll_s: the time to wait before reading the study again, in seconds.
    """

    def __init__(
        self,
        study: optuna.Study,
        *,
        shared: bool,
        machine: str,
        remark: Callable[[str], None] = lambda text: None,
        poll_s: float = _POLL_S,
    ) -> None:
        self._poll_s = poll_s
        self._study = study
        self._shared = shared
        self._machine = machine
        self._remark = remark
        self._left = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = time.time()
        self.me = this_worker()

    def __enter__(self) -> Self:
        self._sign()
        if self._shared:
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        # KeyError: the study was removed, as one whose defaults fail
        with contextlib.suppress(OptunaError, SQLAlchemyError, OSError, KeyError):
            self._study.set_user_attr(_PRESENT + self.me.key, None)

    @property
    def is_shared(self) -> bool:
        """Whether there may be other workers."""
        return self._shared

    @property
    def machine(self) -> str:
        """The name of this machine in the study."""
        return self._machine

    def _sign(self) -> None:
        fields = json.loads(self.me.signature(GRACE_S))
        sign = {**fields, "machine": self._machine, "since": self._since}
        self._study.set_user_attr(_PRESENT + self.me.key, json.dumps(sign))

    def _beat(self) -> None:
        while not self._left.wait(_BEAT_S):
            try:
                self._sign()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next beat may succeed
                self._remark(f"this worker can't write a sign of life into the database: {error}")

    def machines(self) -> dict[str, int]:
        """Return the number of workers on each machine now, this one included."""
        if not self._shared:
            return {self._machine: 1}
        there = living(self._study.user_attrs).values()
        count = Counter(fields["machine"] for fields in there)
        return {self._machine: 1} | dict(count)

    def signs(self) -> Mapping[str, Any]:
        """Return the workers' signs of life, for :func:`is_alive`."""
        return self._study.user_attrs if self._shared else {}

    def is_leader(self) -> bool:
        """Return whether this worker leads; the oldest one takes over from a dead leader.

        Two workers that take over at the same moment both write, and read again after a while: the
        last writer leads. If both still lead, a value is measured twice and nothing is lost.
        """
        if not self._shared:
            return True
        attributes = self._study.user_attrs
        there = living(attributes)
        holder = attributes.get(_LEADER)
        if holder == self.me.key:
            return True
        oldest = min(there, key=lambda key: (there[key]["since"], key), default=self.me.key)
        if holder in there or oldest != self.me.key:
            return False
        self._study.set_user_attr(_LEADER, self.me.key)
        self.wait(2)
        return bool(self._study.user_attrs.get(_LEADER) == self.me.key)

    def wait(self, polls: float = 1) -> None:
        """Wait for other workers, for a random time: not all should query the database at once."""
        time.sleep(polls * self._poll_s * random.uniform(0.5, 1.5))
