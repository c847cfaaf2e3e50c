"""Whose is a task that two workers have taken on at once?

A trial is added to Optuna's storage together with everything that says what it is, and trials are
numbered in the order in which they were added. So whoever looks at the study after that sees the
same trials before its own, and the first one keeps what both wanted; the other one withdraws. That
is Lamport's bakery (1974), with the storage to hand out the numbers. No lock is needed, which a
worker could take with it when it dies, and nothing that the gRPC proxy does not pass.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from autotuner.knobs.knob import Configuration
from autotuner.study.budget import SEARCH_ROLES
from autotuner.study.record import Role, TrialRecord

_Rule = Callable[[TrialRecord, Sequence[TrialRecord], Configuration], bool]


TAKEN = "another worker has taken it on"


def before(number: int, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that count and were added before one of them: what it has to respect."""
    return [record for record in records if record.number < number and record.counts]


def objection(
    mine: TrialRecord,
    records: Sequence[TrialRecord],
    *,
    default: Configuration,
    most_trials: int | None,
) -> str | None:
    """Return why a trial that has just been added is not to be run; None if it is.

    Args:
        mine: the trial.
        records: all trials of the study, read after it was added.
        default: TensorFlow's own configuration.
        most_trials: of the search in all; None: time alone limits them.
    """
    earlier = before(mine.number, records)
    used = sum(r.role in SEARCH_ROLES for r in earlier)
    if mine.role in SEARCH_ROLES and most_trials is not None and used >= most_trials:
        return "the trials are used up"
    rule = _RULES.get(mine.role)
    return TAKEN if rule is not None and rule(mine, earlier, default) else None


def _same_role(mine: TrialRecord, earlier: Sequence[TrialRecord], default: Configuration) -> bool:
    return any(r.role is mine.role for r in earlier)


def _being_measured(
    mine: TrialRecord, earlier: Sequence[TrialRecord], default: Configuration
) -> bool:
    """Tell whether the configuration is being measured, or was when this trial was thought of.

    A repeat later on, by who knows how it came out, is another matter.
    """
    if mine.undecided:
        return False
    others = (r for r in earlier if r.role in SEARCH_ROLES and not r.undecided)
    unknown = (r for r in others if r.is_running or _ended_after(r, mine.started))
    return mine.key(default) in {record.key(default) for record in unknown}


def _ended_after(record: TrialRecord, moment: datetime | None) -> bool:
    return record.ended is not None and moment is not None and record.ended > moment


def _same_round(mine: TrialRecord, earlier: Sequence[TrialRecord], default: Configuration) -> bool:
    key = mine.key(default)
    searched = max((r.number for r in earlier if r.role is Role.SEARCH), default=-1)
    return any(
        r.race_round == mine.race_round and r.key(default) == key
        for r in earlier
        if r.role is Role.RACE and r.number > searched  # those before it were of another race
    )


_RULES: Mapping[Role, _Rule] = {
    Role.DEFAULT: _same_role,
    Role.RECIPE: _same_role,
    Role.SCRIPT: _same_role,
    Role.SEARCH: _being_measured,
    Role.RACE: _same_round,
}


def lost_tasks(records: Sequence[TrialRecord], default: Configuration) -> list[Configuration]:
    """Return what the search is to try again: configurations whose worker has died, once each.

    Who is lost twice is not tried a third time: it may be the configuration that does it.
    """
    losses: dict[str, list[TrialRecord]] = {}
    counted: set[str] = set()
    for record in records:
        if record.role is not Role.SEARCH:
            continue
        key = record.key(default)
        if record.lost:
            losses.setdefault(key, []).append(record)
        elif record.counts and key in losses:
            counted.add(key)
    return [
        dict(lost[0].configuration)
        for key, lost in losses.items()
        if len(lost) == 1 and key not in counted
    ]
