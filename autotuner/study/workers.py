"""The workers of one study: who is there, who is gone, who prepares it for all.

A study is run by one process, or by many on many machines. All there is between them is Optuna's
storage, so a worker says in the study now and then that it lives (Optuna's own heartbeats need
``study.optimize``, and do not pass its gRPC proxy). A worker that has not been heard of for a
minute is taken to be dead, and its trial is another one's. Clocks must agree to within half
of that.

On the same machine it is enough to look whether the process is there. So a study in a file or in
memory, which nobody else can reach, needs none of this: its workers is one process.
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
"""After how long without a sign of life a worker elsewhere is taken to be dead."""

_BEAT_S = 15.0
_POLL_S = 1.0
_PRESENT = "worker:"
_LEADER = "leader"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that works on studies, as it signs what it does.

    ``key``: its own name among all. ``boot`` and ``started`` tell it from a later process with the
    same number.
    """

    key: str
    host: str
    boot: str
    pid: int
    started: float

    def signature(self, limit_s: float) -> str:
        """Return who this is, as JSON, for what it has taken on.

        Args:
            limit_s: how long that can last; after it a process that can't be seen is not waited
                for, where it has left no sign of life.
        """
        fields = {**dataclasses.asdict(self), "until": round(time.time() + limit_s)}
        return json.dumps(fields)


def this_worker() -> Worker:
    """Return this process as a worker with a key of its own."""
    process = psutil.Process()
    return Worker(
        key=uuid.uuid4().hex[:12],
        host=socket.gethostname(),
        boot=_boot_id(),
        pid=os.getpid(),
        started=round(process.create_time(), 2),
    )


def is_alive(signature: str, attributes: Mapping[str, Any]) -> bool:
    """Tell whether the worker that has signed something is still there; elsewhere, may be.

    Args:
        signature: as :meth:`Worker.signature` returned it.
        attributes: of the study, in which workers leave signs of life.
    """
    try:
        fields = json.loads(signature)
        if fields["host"] != socket.gethostname():
            present = attributes.get(_PRESENT + fields["key"])
            until = fields["until"] if present is None else json.loads(present)["until"]
            return bool(time.time() < until)
        process = psutil.Process(fields["pid"])
        same_start = abs(process.create_time() - fields["started"]) < 1
        # what has ended stays in the table until somebody asks, in a container maybe for ever
        ended = process.status() == psutil.STATUS_ZOMBIE
        return bool(fields["boot"] == _boot_id() and same_start and not ended)
    except (ValueError, KeyError, TypeError, psutil.Error):
        return False


def worker_name(signature: str) -> str:
    """Return who has signed something, for people."""
    try:
        fields = json.loads(signature)
        return f"process {fields['pid']} on {fields['host']}, boot {fields['boot'][:8]}"
    except (ValueError, KeyError, TypeError):
        return "of which nothing is known"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def living(attributes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the workers of a study that are there, by their keys: the fields of their signs."""
    found = {}
    for name, text in attributes.items():
        if name.startswith(_PRESENT) and text is not None and is_alive(text, attributes):
            found[name.removeprefix(_PRESENT)] = json.loads(text)
    return found


class Workers:
    """The workers of a study, as one of them sees them. While the context lasts, it is there.

    Args:
        study: the study.
        shared: others can reach it. If not, this one is alone, and says nothing.
        machine: the name under which this machine is known in the study.
        remark: called with a sentence if a sign of life could not be left.
        poll_s: how long to wait before looking again what others have done.
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
        if self._shared:
            self._sign()
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()
            with contextlib.suppress(OptunaError, SQLAlchemyError, OSError):
                self._study.set_user_attr(_PRESENT + self.me.key, None)

    @property
    def is_shared(self) -> bool:
        """Whether there may be others."""
        return self._shared

    @property
    def machine(self) -> str:
        """The name under which this machine is known in the study."""
        return self._machine

    def _sign(self) -> None:
        fields = json.loads(self.me.signature(GRACE_S))
        sign = {**fields, "machine": self._machine, "since": self._since}
        self._study.set_user_attr(_PRESENT + self.me.key, json.dumps(sign))

    def _beat(self) -> None:
        while not self._left.wait(_BEAT_S):
            try:
                self._sign()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next beat may get through
                self._remark(f"this worker can't leave a sign of life in the database: {error}")

    def machines(self) -> dict[str, int]:
        """Return how many workers there are on each machine now, this one among them."""
        if not self._shared:
            return {self._machine: 1}
        there = living(self._study.user_attrs).values()
        count = Counter(fields["machine"] for fields in there)
        return {self._machine: 1} | dict(count)

    def signs(self) -> Mapping[str, Any]:
        """Return the signs of life that workers have left, for :func:`is_alive`."""
        return self._study.user_attrs if self._shared else {}

    def is_leader(self) -> bool:
        """Tell whether this worker does what is done once for all; the eldest takes over.

        Two that take over in the same moment both write, and look again after a while: the last one
        has it. Should that ever be not enough, something is measured twice, and nothing is lost.
        """
        if not self._shared:
            return True
        attributes = self._study.user_attrs
        there = living(attributes)
        holder = attributes.get(_LEADER)
        if holder == self.me.key:
            return True
        eldest = min(there, key=lambda key: (there[key]["since"], key), default=self.me.key)
        if holder in there or eldest != self.me.key:
            return False
        self._study.set_user_attr(_LEADER, self.me.key)
        self.wait(2)
        return bool(self._study.user_attrs.get(_LEADER) == self.me.key)

    def wait(self, polls: float = 1) -> None:
        """Wait for others to get on; not all for as long, or all would ask the database at once."""
        time.sleep(polls * self._poll_s * random.uniform(0.5, 1.5))
