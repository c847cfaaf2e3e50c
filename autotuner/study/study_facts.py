"""The facts that hold for all trials of a study: its identity, its step, its knobs."""

import dataclasses
from pathlib import Path

from autotuner.knobs.knob import Build
from autotuner.knobs.liveness import Evidence, EvidenceScope, Liveness
from autotuner.machine.host import Machine
from autotuner.options.study_spec import Objective
from autotuner.statistics.comparison import Metric
from autotuner.statistics.throughput import Unit, score_unit
from autotuner.study.identity import Identity
from autotuner.study.space import Space
from autotuner.trial.outcome import Notice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The script, the machine and the TensorFlow with which a study was begun."""

    identity: Identity
    machine: Machine
    build: Build


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Facts that hold for all trials of a study; known once the defaults have run.

    ``source`` and ``phase``: define its step. ``base``: the score of the first trial of the
    defaults, which turns gains back into scores. ``evidence`` and ``liveness``: the findings of the
    inspection, and which knobs can act. ``imported``: the modules for a warm parent to import.
    """

    identity: Identity
    machine: Machine
    build: Build
    space: Space
    unit: Unit
    source: str
    phase: str
    folder: Path
    seed: int
    objective: Objective
    base: float
    notices: tuple[Notice, ...] = ()
    imported: tuple[str, ...] = ()
    evidence: Evidence = Evidence(scope=EvidenceScope.NOTHING)
    liveness: tuple[Liveness, ...] = ()

    @property
    def metric(self) -> Metric:
        """The metric of all trials."""
        return Metric(objective=self.objective, unit=self.unit)

    @property
    def score_unit(self) -> str:
        """The unit of the study's values."""
        return score_unit(self.objective, self.unit)

    @property
    def pinned_phase(self) -> str | None:
        """The phase that all trials measure; None if the source has no phases."""
        return self.phase if self.source in ("keras", "dataset", "function") else None
