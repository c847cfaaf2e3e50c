"""Whose is a task that two workers have taken on at once."""

import dataclasses
from datetime import datetime, timedelta

from optuna.trial import TrialState

from autotuner.knobs.knob import Configuration
from autotuner.study.conflicts import before, lost_tasks, objection
from autotuner.study.record import Role, TrialRecord
from tests.fakes import record

DEFAULT: Configuration = {"intra_op": 4}
OTHER: Configuration = {"intra_op": 2}
NOON = datetime(2026, 11, 27, 12)


def trial(number: int, role: Role, configuration: Configuration, **fields: object) -> TrialRecord:
    """Return a trial that runs."""
    running = dataclasses.replace(
        record(number, configuration, None), role=role, state=TrialState.RUNNING, status=None
    )
    return dataclasses.replace(running, **fields)  # type: ignore[arg-type]


def why(mine: TrialRecord, *others: TrialRecord, most_trials: int | None = None) -> str | None:
    """Return the objection to a trial."""
    records = sorted([mine, *others], key=lambda one: one.number)
    return objection(mine, records, default=DEFAULT, most_trials=most_trials)


def test_the_first_one_keeps_it() -> None:
    """Of two that want the same, the later one is told; the earlier one is not."""
    first, second = trial(3, Role.SEARCH, OTHER), trial(4, Role.SEARCH, OTHER)
    assert why(first, second) is None
    assert why(second, first) == "another worker has taken it on"
    assert why(trial(5, Role.SEARCH, {"intra_op": 1}), first, second) is None


def test_who_has_withdrawn_takes_nothing_away() -> None:
    """What failed, as a trial that was withdrawn, does not count."""
    withdrawn = trial(3, Role.SEARCH, OTHER, state=TrialState.FAIL)
    assert why(trial(4, Role.SEARCH, OTHER), withdrawn) is None
    assert before(4, [withdrawn]) == []


def test_a_repeat_is_one_of_what_is_known() -> None:
    """Who had begun before the other one ended could not know how it came out."""
    measured = trial(
        3, Role.SEARCH, OTHER, state=TrialState.COMPLETE, ended=NOON, started=NOON - timedelta(1)
    )
    hasty = trial(4, Role.SEARCH, OTHER, started=NOON - timedelta(seconds=1))
    assert why(hasty, measured) == "another worker has taken it on"
    assert why(dataclasses.replace(hasty, started=NOON + timedelta(seconds=1)), measured) is None


def test_the_number_of_trials_is_exact() -> None:
    """The trials before it use the budget up, whatever comes after."""
    three = [trial(n, Role.SEARCH, {"intra_op": n}) for n in (1, 2, 3)]
    assert why(three[2], *three[:2], most_trials=2) == "the trials are used up"
    assert why(three[1], three[0], three[2], most_trials=2) is None
    assert why(trial(4, Role.RACE, OTHER), *three, most_trials=2) is None


def test_what_is_done_once() -> None:
    """Defaults and recipe; a round of the race, but not another round."""
    assert why(trial(1, Role.RECIPE, OTHER), trial(0, Role.RECIPE, OTHER)) is not None
    raced = trial(5, Role.RACE, OTHER, race_round=0)
    assert why(trial(6, Role.RACE, OTHER, race_round=0), raced) is not None
    assert why(trial(6, Role.RACE, OTHER, race_round=1), raced) is None
    later = trial(7, Role.SEARCH, {"intra_op": 1}, state=TrialState.COMPLETE)
    assert why(trial(8, Role.RACE, OTHER, race_round=0), raced, later) is None  # another race


def test_what_is_lost_is_tried_again_once() -> None:
    """Not what was measured since, nor what was lost twice."""
    lost = trial(1, Role.SEARCH, OTHER, state=TrialState.FAIL, lost=True)
    assert lost_tasks([lost], DEFAULT) == [OTHER]
    assert lost_tasks([lost, trial(2, Role.SEARCH, OTHER)], DEFAULT) == []
    assert lost_tasks([lost, dataclasses.replace(lost, number=2)], DEFAULT) == []
