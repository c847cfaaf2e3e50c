"""The final: the finalist against the defaults, in pairs of new processes, until it is decided."""

import dataclasses
from collections.abc import Sequence

import optuna

from autotuner.study.candidates import own_configuration
from autotuner.study.model_sampler import estimates
from autotuner.study.record import StudyFacts, TrialRecord, noise_from, read_records
from autotuner.study.settings import spec_from
from autotuner.study.tuner import Tuner
from autotuner.verdict.decision import Decision, decide, up_to_search
from autotuner.verdict.numerics import Numerics, check_numerics
from autotuner.verdict.sequential import FIRST_LOOK, rule_of

_ATTRIBUTE = "numerics"
_MOST_ATTEMPTS = 2


def decision_of(
    study: optuna.Study,
    facts: StudyFacts,
    records: Sequence[TrialRecord] | None = None,
    *,
    export_anyway: bool = False,
) -> Decision | None:
    """Return the decision on what a study holds so far."""
    if records is None:
        records = read_records(study.get_trials(deepcopy=False))
    attributes = study.user_attrs  # once: Optuna copies all of them each time
    spec, noise = spec_from(attributes), noise_from(attributes)
    assert spec is not None
    stored = attributes.get(_ATTRIBUTE)
    return decide(
        records,
        default=facts.space.default,
        recipe=facts.space.recipe,
        own=own_configuration(facts),
        noise=noise,
        rule=rule_of(spec),
        numerics=None if stored is None else Numerics(**stored),
        strict=spec.strict_numerics,
        exported_anyway=export_anyway,
        estimate=lambda: estimates(
            up_to_search(records), facts.space, 0.0 if noise is None else noise.between
        ),
    )


def run_final(tuner: Tuner, study: optuna.Study) -> Decision | None:
    """Run pairs until they are decided or the reserve is spent, then the numerical guard."""

    def current() -> Decision | None:
        return decision_of(study, tuner.facts, tuner.records())

    decision, attempts = current(), 0
    while decision is not None and _wants_pair(decision, tuner, attempts):
        used = [record.pair for record in tuner.records() if record.pair is not None]
        tuner.run_pair(
            decision.best.configuration,
            pair=max(used, default=-1) + 1,
            starts_first=decision.starts_first,
        )
        attempts += 1
        decision = current()
    if decision is not None and decision.is_faster and decision.numerics is None:
        numerics = check_numerics(tuner, decision.best.configuration)
        study.set_user_attr(_ATTRIBUTE, dataclasses.asdict(numerics))
        decision = current()
    return decision


def _wants_pair(decision: Decision, tuner: Tuner, attempts: int) -> bool:
    """Tell whether one more pair is wanted; the first few even beyond the budget."""
    most = tuner.spec.plan.most_pairs
    if decision.is_default or decision.final_failures or attempts >= _MOST_ATTEMPTS * most:
        return False
    counted = 0 if decision.finding is None else decision.finding.pairs
    if counted < min(most, FIRST_LOOK) and attempts < FIRST_LOOK:
        return True
    decided = decision.finding is not None and decision.finding.decided
    # they count in twos, one of each order: a pair that stays alone would tell nothing
    to_count = 1 if decision.starts_first else 2
    return not decided and counted < most and tuner.budget.has_time_for_pairs(to_count)
