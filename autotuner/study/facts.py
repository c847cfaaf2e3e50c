"""What holds for all trials of a study: what it was made of, its step, its knobs."""

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
    """What holds for all trials of a study; known once the defaults have run.

    ``source`` and ``phase``: what its step is. ``base``: the score of the first trial of the
    defaults, which turns gains back into scores. ``evidence`` and ``liveness``: what the inspection
    has shown, and which knobs can act. ``imported``: the modules that a warm parent would import.
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
        """What trials are measured by."""
        return Metric(objective=self.objective, unit=self.unit)

    @property
    def score_unit(self) -> str:
        """The unit of the study's values."""
        return score_unit(self.objective, self.unit)

    @property
    def pinned_phase(self) -> str | None:
        """The phase that all trials measure; None where the source has no phases."""
        return self.phase if self.source in ("keras", "dataset", "function") else None
