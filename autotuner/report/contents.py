"""What a report says, gathered from a study once; every way of showing it starts from this."""

import dataclasses
import math
from collections.abc import Sequence

import optuna

from autotuner.export.content import Export, export_of
from autotuner.knobs.selection import effective
from autotuner.options.study_spec import StudySpec
from autotuner.stages.final import decide_on
from autotuner.stages.known import Known
from autotuner.statistics.knob_effects import KnobEffect, knob_effects
from autotuner.study.bulk import AnyTrial
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.elapsed import time_spent_s
from autotuner.study.facts import StudyFacts
from autotuner.study.memory import DIAGNOSIS, FACTS, NOISE, SPEC, WARM, Memory
from autotuner.study.noise import Noise
from autotuner.study.record import Role, TrialRecord, read_records
from autotuner.study.warm_check import WarmCheck
from autotuner.verdict.decision import Decision
from autotuner.verdict.numerics import NUMERICS

_TRIED = (Role.DEFAULT, Role.RECIPE, Role.SCRIPT, Role.SEARCH, Role.RACE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything about a study that is worth saying. ``wall_s``: what it has taken by the clock."""

    export: Export
    spec: StudySpec
    records: tuple[TrialRecord, ...]
    noise: Noise | None
    diagnosis: Diagnosis | None
    effects: tuple[KnobEffect, ...]
    warm_check: WarmCheck | None = None
    wall_s: float = 0.0

    @property
    def facts(self) -> StudyFacts:
        """What holds for all trials."""
        return self.export.facts

    @property
    def decision(self) -> Decision:
        """What to deploy."""
        return self.export.decision


def gather(
    study: optuna.Study,
    trials: Sequence[AnyTrial] | None = None,
    *,
    export_anyway: bool = False,
) -> Contents | None:
    """Return what there is to say of a study; None until the defaults have been measured.

    Args:
        study: the study.
        trials: its trials, where they have been read already.
        export_anyway: the files are to hold the best, proven or not.
    """
    memory = Memory(study)
    facts, spec = memory.read(FACTS), memory.read(SPEC)
    if facts is None or spec is None:
        return None
    trials = study.get_trials(deepcopy=False) if trials is None else trials
    records = tuple(read_records(trials))
    known = Known(
        spec=spec,
        facts=facts,
        records=records,
        noise=memory.read(NOISE),
        numerics=memory.read(NUMERICS),
    )
    decision = decide_on(known)
    if decision is None:
        return None
    decision = dataclasses.replace(decision, exported_anyway=export_anyway)
    return Contents(
        export=export_of(study, facts, decision, trials),
        spec=spec,
        records=records,
        noise=known.noise,
        diagnosis=memory.read(DIAGNOSIS),
        effects=tuple(knob_effects(_log_gains(records, facts), facts.space.default)),
        warm_check=memory.read(WARM),
        wall_s=time_spent_s(trials),
    )


def _log_gains(
    records: Sequence[TrialRecord], facts: StudyFacts
) -> list[tuple[dict[str, int | str], float]]:
    default = facts.space.default
    return [
        (dict(effective({**default, **record.configuration}, default)), math.log(record.gain))
        for record in records
        if record.gain is not None and record.role in _TRIED
    ]
