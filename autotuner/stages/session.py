"""A session: everything that one process uses while it tunes, assembled in one place."""

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from autotuner.stages.known import Known, Worker
from autotuner.study.artifacts import ArtifactStore
from autotuner.study.budget import Budget
from autotuner.study.events import OnEvent, PhaseEntered, Remark
from autotuner.study.lab import Lab
from autotuner.study.memory import DIAGNOSIS, FACTS, NOISE, WARM, Memory
from autotuner.study.noise import Design, Method
from autotuner.study.storage import Storage
from autotuner.study.studies import Study
from autotuner.study.study_facts import StudyFacts
from autotuner.study.target import Target
from autotuner.study.trials import Trials
from autotuner.study.warm_check import WarmCheck
from autotuner.study.workers import Workers
from autotuner.trial.live_trial import time_allowed
from autotuner.trial.runner import Runner
from autotuner.verdict.numerics import NUMERICS

_SIDES = 2  # of a duel, which start one after the other until both are warm
Turn = Callable[[], AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """Where a study is stored. ``artifacts``: where its trials' files are; None: nowhere."""

    study: Study
    storage: Storage
    artifacts: ArtifactStore | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clock:
    """The time. ``spent_s``: what interrupted runs have used of the same budget, in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    spent_s: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """What one process uses while it tunes.

    ``trials``, ``memory``: of the study. ``lab``: measures. ``runner``: runs processes that are not
    trials. ``turn``: returns a context in which only this process measures on this machine; the
    next task is chosen inside it, after other processes have finished theirs. ``elapsed_s``:
    returns the time that the run has used, in seconds.
    """

    target: Target
    trials: Trials
    memory: Memory
    lab: Lab
    runner: Runner
    workers: Workers
    on_event: OnEvent
    turn: Turn
    elapsed_s: Callable[[], float]

    @property
    def facts(self) -> StudyFacts:
        """What holds for all trials.

        Raises:
            RuntimeError: if the defaults have not run yet.
        """
        facts = self.memory.read(FACTS)
        if facts is None:
            raise RuntimeError("the defaults have not run yet")
        return facts

    def known(self) -> Known:
        """Return everything known of the study now."""
        return Known(
            spec=self.target.spec,
            facts=self.facts,
            records=self.trials.records(),
            elapsed_s=self.elapsed_s(),
            noise=self.memory.read(NOISE),
            diagnosis=self.memory.read(DIAGNOSIS),
            numerics=self.memory.read(NUMERICS),
            worker=self._worker(),
        )

    def _worker(self) -> Worker:
        machines = self.workers.machines()
        return Worker(
            key=self.workers.me.key,
            machine=self.workers.machine,
            shared=self.workers.is_shared,
            machines=frozenset(machines),
            count=sum(machines.values()),
            lane=random.randrange(2**16) if self.workers.is_shared else 0,
        )

    def budget(self) -> Budget:
        """Return what is left of trials and time."""
        return Budget(
            spec=self.target.spec, records=self.trials.records(), elapsed_s=self.elapsed_s()
        )

    def remark(self, text: str) -> None:
        """Write a sentence for the user."""
        self.on_event(Remark(text))

    def wait(self) -> None:
        """Wait for other workers, and fail the trials of those that have died."""
        self.workers.wait()
        self.trials.sweep()

    @property
    def design(self) -> Design:
        """How trials are compared with the defaults; not in duels until the noise is known."""
        noise = self.memory.read(NOISE)
        return Design() if noise is None else noise.design

    @property
    def warm(self) -> WarmCheck:
        """How processes of the search start."""
        return self.memory.read(WARM) or WarmCheck(used=False, why="")

    def keep_design(self, before: Design, after: Design) -> None:
        """Remember, and report, a change of the design: duels are given up."""
        if after == before:
            return
        if before.method is Method.DUEL:
            self.remark(f"no duels with this script from here on: {after.why}")
        noise = self.memory.read(NOISE)
        if noise is not None:
            self.memory.write(NOISE, noise.with_design(after))

    def keep_cold(self, why: str) -> None:
        """Remember, and report, that no more processes are forked; an empty ``why``: they are."""
        if self.warm.used and why:
            self.memory.write(WARM, dataclasses.replace(self.warm, used=False, why=why))
            self.remark(f"warm start off from here on: {why}")


@contextmanager
def open_session(
    target: Target,
    store: Store,
    runner: Runner,
    on_event: OnEvent,
    *,
    workers: Workers | None = None,
    turn: Turn = contextlib.nullcontext,
    clock: Clock | None = None,
) -> Iterator[Session]:
    """Assemble a session; the reference process ends with the context.

    Args:
        target: what is tuned.
        store: where its study is stored.
        runner: runs processes.
        on_event: called with each event.
        workers: of the study; None: this process alone.
        turn: see :class:`Session`.
        clock: None: the process's own.
    """
    clock = clock or Clock()
    if workers is None:
        workers = Workers(store.study, shared=False, machine=target.machine.host)
    limit_s = _SIDES * sum(time_allowed(target.spec.timing).values())
    began_s = clock.monotonic() - clock.spent_s
    with Lab(
        runner,
        target.folder / "references",
        lambda phase: on_event(PhaseEntered(phase)),
        clock.monotonic,
    ) as lab:
        yield Session(
            target=target,
            trials=Trials(
                store.study, store.storage, workers, limit_s=limit_s, artifacts=store.artifacts
            ),
            memory=Memory(store.study),
            lab=lab,
            runner=runner,
            workers=workers,
            on_event=on_event,
            turn=turn,
            elapsed_s=lambda: clock.monotonic() - began_s,
        )
