"""What a stage plans from: everything known of a study at one moment, as plain values."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol, TypeVar

from autotuner.options.study_spec import StudySpec
from autotuner.study.budget import Budget
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.noise import Method, Noise
from autotuner.study.record import Role, Task, TrialRecord
from autotuner.study.study_facts import StudyFacts
from autotuner.verdict.numerics import Numerics

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """The worker that plans, among the others of its study.

    ``key``: its own name. ``machine``: where it runs. ``shared``: other workers can join.
    ``machines``: the machines that have workers now. ``count``: the number of living workers.
    ``lane``: a random number, so that workers that plan at the same moment take different tasks.
    """

    key: str = ""
    machine: str = ""
    shared: bool = False
    machines: frozenset[str] = frozenset()
    count: int = 1
    lane: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """A study at one moment. ``elapsed_s``: the time that its run has used, in seconds."""

    spec: StudySpec
    facts: StudyFacts
    records: Sequence[TrialRecord]
    elapsed_s: float = 0.0
    noise: Noise | None = None
    diagnosis: Diagnosis | None = None
    numerics: Numerics | None = None
    worker: Worker = Worker()

    @functools.cached_property
    def budget(self) -> Budget:
        """What is left of trials and time."""
        return Budget(spec=self.spec, records=self.records, elapsed_s=self.elapsed_s)

    @property
    def between(self) -> float:
        """Standard deviation of log gains from process to process; 0 until it is known."""
        return 0.0 if self.noise is None else self.noise.between

    @property
    def duels(self) -> bool:
        """Whether trials are compared in duels."""
        return self.noise is not None and self.noise.method is Method.DUEL

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the first few options, which are sorted from best to worst.

        Without other workers, return the first one.
        """
        return options[self.worker.lane % max(1, min(self.worker.count, len(options)))]


class Stage(Protocol):
    """A part of tuning that consists of trials. Its methods are pure."""

    @property
    def roles(self) -> frozenset[Role]:
        """The trials of this stage, of all workers, that the next stage waits for."""

    def next_task(self, known: Known) -> Task | None:
        """Return what to measure next; None if there is nothing to measure now."""

    def wants(self, task: Task, known: Known, mine: TrialRecord) -> bool:
        """Return whether a task that has just been added is still wanted.

        Args:
            task: what ``next_task`` returned.
            known: with only the trials that were added before this one.
            mine: the trial that was added for the task.
        """

    def awaits_others(self, known: Known) -> bool:
        """Return whether a worker that runs nothing now still has tasks to do."""
