"""A study's result, loaded once; every export and report is a function of it."""

import dataclasses
import functools
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from autotuner.knobs.selection import effective
from autotuner.options.study_spec import StudySpec
from autotuner.statistics.knob_model import KnobEffect, knob_effects
from autotuner.statistics.sequential import Pair, rule_of
from autotuner.study.bulk import AnyTrial
from autotuner.study.candidates import own_configuration
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.elapsed import time_spent_s
from autotuner.study.memory import DIAGNOSIS, FACTS, NOISE, SPEC, WARM, Key, Memory
from autotuner.study.noise import Noise
from autotuner.study.proposals import estimates, fitted_model
from autotuner.study.record import TrialRecord, read_records
from autotuner.study.studies import Study
from autotuner.study.study_facts import StudyFacts
from autotuner.study.warm_check import WarmCheck
from autotuner.verdict.decision import Baselines, Decision, counted_pairs, decide, up_to_search
from autotuner.verdict.numerics import NUMERICS, Numerics
from autotuner.verdict.payback import Payback, payback
from autotuner.verdict.sentences import sentence

RESULT_KEYS: tuple[Key[Any], ...] = (FACTS, SPEC, NOISE, NUMERICS, DIAGNOSIS, WARM)
"""What a result needs of a study besides its trials."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a study whose defaults have been measured.

    ``tuning_s``: the wall time of its trials, in seconds. ``as_of``: when it was loaded.
    """

    study: str
    spec: StudySpec
    facts: StudyFacts
    records: tuple[TrialRecord, ...]
    noise: Noise | None
    diagnosis: Diagnosis | None
    warm_check: WarmCheck | None
    decision: Decision
    tuning_s: float
    as_of: datetime

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, or two."""
        return sentence(self.decision, self.facts.objective)

    @property
    def payback(self) -> Payback | None:
        """When tuning has paid; None if the finalist is not recommended."""
        finding = self.decision.finding
        if finding is None or not self.decision.is_recommended:
            return None
        return payback(self.tuning_s, finding.ratio)

    @property
    def final_pairs(self) -> list[Pair]:
        """The pairs behind the decision's finding, in their order."""
        default = self.facts.space.default
        return counted_pairs(self.records, self.decision, default, self.noise)

    @functools.cached_property
    def effects(self) -> tuple[KnobEffect, ...]:
        """The effect of each value that was tried, by the model that chose what to try.

        Computed on first use: fitting the model takes a moment, and lists of studies don't need it.
        """
        space = self.facts.space
        model = fitted_model(self.records, space, between(self.noise))
        if model is None:
            return ()
        tried = [
            effective({**space.default, **record.configuration}, space.default)
            for record in self.records
            if record.gain is not None
        ]
        return tuple(knob_effects(model, tried, space.default))


def between(noise: Noise | None) -> float:
    """Return the standard deviation from process to process; 0 where it was not measured."""
    return 0.0 if noise is None else noise.between


def decision_of(
    records: Sequence[TrialRecord],
    *,
    facts: StudyFacts,
    spec: StudySpec,
    noise: Noise | None,
    numerics: Numerics | None,
) -> Decision | None:
    """Return the decision on the records so far; None if the defaults were not measured."""
    space = facts.space
    return decide(
        records,
        Baselines(default=space.default, recipe=space.recipe, own=own_configuration(facts)),
        noise=noise,
        rule=rule_of(spec),
        numerics=numerics,
        strict=spec.strict_numerics,
        estimate=lambda: estimates(up_to_search(records), space, between(noise)),
    )


def load_result(study: Study, trials: Sequence[AnyTrial] | None = None) -> Result | None:
    """Return a study's result; None until its defaults have been measured.

    Args:
        study: the study.
        trials: its trials, if they have been read already.
    """
    memory = Memory(study)
    memory.read_all(RESULT_KEYS)
    facts, spec = memory.read(FACTS), memory.read(SPEC)
    if facts is None or spec is None:
        return None
    trials = study.get_trials(deepcopy=False) if trials is None else trials
    records, noise = tuple(read_records(trials)), memory.read(NOISE)
    decision = decision_of(
        records, facts=facts, spec=spec, noise=noise, numerics=memory.read(NUMERICS)
    )
    if decision is None:
        return None
    return Result(
        study=study.study_name,
        spec=spec,
        facts=facts,
        records=records,
        noise=noise,
        diagnosis=memory.read(DIAGNOSIS),
        warm_check=memory.read(WARM),
        decision=decision,
        tuning_s=time_spent_s(trials),
        as_of=datetime.now().astimezone(),
    )
