"""Importing trials of another study, for the sampler to learn from.

The other study's scripts, versions and machines may differ, so an imported trial counts neither in
the search nor in the race or the verdict; the best few are run again.
"""

import dataclasses
from collections.abc import Sequence

import optuna

from autotuner.errors import UserError
from autotuner.knobs.knob import Configuration
from autotuner.knobs.selection import effective
from autotuner.options.study_spec import Objective
from autotuner.statistics.comparison import corrected
from autotuner.study.record import (
    Role,
    Side,
    TrialRecord,
    TrialResult,
    configuration_key,
    read_records,
)
from autotuner.study.studies import load_facts
from autotuner.study.study_facts import StudyFacts
from autotuner.study.trials import Trials
from autotuner.trial.outcome import Status

_TAKEN = (Role.RECIPE, Role.SCRIPT, Role.SEARCH)
_AGAIN = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A study whose trials are imported."""

    name: str
    default: Configuration
    records: tuple[TrialRecord, ...]


def check_source(study: optuna.Study, objective: Objective) -> Source:
    """Return what can be imported from a study.

    Raises:
        UserError: if the study has no measurements, or those of another objective.
    """
    facts = load_facts(study)
    if facts.objective is not objective:
        problem = f"it was measured by {facts.objective.value}, this study by {objective.value}"
        hint = f"give --objective {facts.objective.value}, or leave --import-trials out"
        raise UserError(f"--import-trials {study.study_name}: {problem}", hint=hint)
    return Source(
        name=study.study_name,
        default=facts.space.default,
        records=tuple(read_records(study.get_trials(deepcopy=False))),
    )


def import_trials(trials: Trials, facts: StudyFacts, source: Source) -> str:
    """Add a source's trials to a study, each once; return a summary in one sentence."""
    done = {record.mark for record in trials.records()}
    taken = left = 0
    for record in source.records:
        if record.role not in _TAKEN or record.gain is None:
            continue
        configuration = _translated(record, source, facts)
        mark = f"{source.name}: trial {record.number}"
        if configuration is None:
            left += 1
        elif mark not in done:
            taken += 1
            side = Side(role=Role.IMPORTED, configuration=dict(configuration), mark=mark)
            result = TrialResult(
                status=Status.MEASURED,
                reason=f"imported from {mark}",
                gain=record.gain,
                gain_low=record.gain_low,
                gain_high=record.gain_high,
            )
            value = corrected(facts.base, record.gain, facts.objective)
            trials.add_imported(side, result, value, facts.space)
    rest = f"; {left} hold settings that are not searched here" if left else ""
    return f"imported from {source.name}: {taken} trials, for the sampler to learn from{rest}"


def _translated(record: TrialRecord, source: Source, facts: StudyFacts) -> Configuration | None:
    """Return a trial's configuration in this study's space; None if it lies outside."""
    full = {**source.default, **record.configuration}
    elsewhere = {name: value for name, value in full.items() if name not in facts.space.domains}
    if any(value != source.default.get(name) for name, value in elsewhere.items()):
        return None
    here = {name: full.get(name, usual) for name, usual in facts.space.default.items()}
    return effective(here, facts.space.default) if facts.space.holds(here) else None


def best_imported(records: Sequence[TrialRecord], default: Configuration) -> list[Configuration]:
    """Return the best few imported configurations, which the search runs again first."""
    found: dict[str, TrialRecord] = {}
    for record in records:
        if record.role is Role.IMPORTED and record.gain is not None:
            known = found.get(configuration_key(record.configuration))
            if known is None or (known.gain or 0.0) < record.gain:
                found[configuration_key(record.configuration)] = record
    ranked = sorted(found.values(), key=lambda record: -(record.gain or 0.0))
    return [r.configuration for r in ranked[:_AGAIN] if r.configuration != default]
