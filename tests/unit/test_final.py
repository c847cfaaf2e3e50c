"""The final, from records alone."""

import dataclasses

import pytest

from autotuner.stages.final import Final, attempts_of, decide_on
from autotuner.stages.known import Known, Worker
from autotuner.statistics.sequential import FIRST_LOOK, Verdict
from autotuner.study.record import Role, Task, TrialRecord, configuration_key
from autotuner.study.trials import WITHDRAWN
from autotuner.verdict.numerics import Numerics
from tests.plans import known, pair, point, preparation, running, trial

FINAL = Final()
BEST = point(2)
TEAM = Worker(key="me", machine="h", shared=True, machines=frozenset({"h", "far"}), count=2)


def before_final() -> list[TrialRecord]:
    """Return a search that has found one good configuration."""
    return [*preparation(), trial(4, Role.SEARCH, BEST, 1.3)]


def pairs(*gains: float, begins: int = 10, **fields: object) -> list[TrialRecord]:
    """Return final pairs, in every second of which the candidate starts first."""
    found: list[TrialRecord] = []
    for k, gain in enumerate(gains):
        number = begins + 2 * k
        found += pair(number, gain, first=k % 2 == 1, configuration=BEST, **fields)
    return found


def plan(*records: TrialRecord, **fields: object) -> Task | None:
    """Return the next task after a search and some pairs."""
    return FINAL.next_task(known(*before_final(), *records, **fields))  # type: ignore[arg-type]


def test_pairs_are_run_until_it_is_decided() -> None:
    """Four clear pairs decide; four scattered pairs do not."""
    assert plan() == Task(role=Role.FINAL, configuration=BEST, starts_first=False)
    assert plan(*pairs(1.3, 1.31, 1.3)) is not None
    assert plan(*pairs(1.3, 1.31, 1.3, 1.31)) is None
    assert plan(*pairs(1.3, 0.9, 1.1, 1.2)) is not None


def test_both_orders_alternate() -> None:
    """The candidate starts first in every second pair."""
    orders = []
    for count in range(4):
        task = plan(*pairs(*[1.3] * count))
        assert task is not None
        orders.append(task.starts_first)
    assert orders == [False, True, False, True]


def test_no_more_than_the_greatest_number_of_pairs() -> None:
    """Running pairs count as well."""
    scattered = (1.3, 0.9, 1.1, 1.2, 0.95, 1.25)
    assert plan(*pairs(*scattered), pairs=6) is None
    assert plan(*pairs(*scattered[:5]), pairs=6) is not None
    busy = running(30, Role.FINAL, BEST, pair=99)
    assert plan(*pairs(*scattered[:5]), busy, pairs=6) is None
    assert plan(pairs=0) is None


def test_the_first_pairs_are_run_even_beyond_the_budget() -> None:
    """Without these pairs there is no verdict."""
    late = {"trials": None, "budget_s": 100.0, "elapsed_s": 500.0}
    assert plan(*pairs(*[1.3] * (FIRST_LOOK - 1)), **late) is not None
    assert plan(*pairs(1.3, 0.9, 1.1, 1.2), **late) is None


def test_a_finalist_that_fails_is_out() -> None:
    """One failure in a new process is enough."""
    failed = pair(10, None, first=True, configuration=BEST)
    assert plan(*failed) is None
    assert plan() is not None
    assert FINAL.next_task(known(*preparation()[:3])) is None  # nothing but the defaults


def test_disturbed_pairs_are_repeated_but_not_for_ever() -> None:
    """Disturbed pairs do not count; each worker makes at most twice as many attempts."""
    figures = dataclasses.replace(trial(0, Role.FINAL).figures, others_cores=1.5)
    busy = pairs(*[1.3] * 4, figures=figures)
    assert plan(*busy, pairs=4) is not None
    assert plan(*pairs(*[1.3] * 8, figures=figures), pairs=4) is None
    assert attempts_of([*before_final(), *busy], "me") == 4
    assert attempts_of([*before_final(), *busy], "another") == 0
    withdrawn = dataclasses.replace(busy[0], pair=77, reason=f"{WITHDRAWN}: quicker")
    assert attempts_of([*before_final(), *busy, withdrawn], "me") == 4


def test_each_machine_has_pairs_of_its_own() -> None:
    """A machine without pairs runs two, even if decided, until three machines are covered."""
    far = pairs(1.3, 1.31, 1.3, 1.31, machine="far", owner="other")
    assert plan(*far, worker=TEAM) is not None
    assert plan(*far) is None  # alone
    three = [
        record
        for k, name in enumerate(("a", "b", "c"))
        for record in pairs(1.3, 1.31, begins=20 + 10 * k, machine=name, owner="other")
    ]
    assert plan(*three, worker=TEAM) is None


def test_a_machine_that_takes_part_is_awaited() -> None:
    """Other workers wait until it has run its pairs, or there is no time for them."""
    there = trial(5, Role.SEARCH, point(3), 1.1, machine="far", owner="other")
    mine = pairs(1.3, 1.31, 1.3, 1.31)
    now = known(*before_final(), there, *mine, worker=TEAM)
    assert FINAL.awaits_others(now)
    assert not FINAL.awaits_others(known(*before_final(), there, *mine))
    theirs = pairs(1.3, 1.31, begins=40, machine="far", owner="other")
    done = known(*before_final(), there, *mine, *theirs, worker=TEAM)
    assert not FINAL.awaits_others(done)
    absent = dataclasses.replace(TEAM, machines=frozenset({"h"}))
    assert not FINAL.awaits_others(dataclasses.replace(now, worker=absent))


def test_a_pair_that_other_workers_ran_first_is_withdrawn() -> None:
    """A pair is also withdrawn if another pair has taken its order."""
    mine = running(30, Role.FINAL, BEST, pair=99)
    task = Task(role=Role.FINAL, configuration=BEST, starts_first=False)
    assert FINAL.wants(task, known(*before_final(), worker=TEAM), mine)
    decided = known(*before_final(), *pairs(1.3, 1.31, 1.3, 1.31))
    assert not FINAL.wants(task, decided, mine)
    begun = running(28, Role.FINAL, {}, pair=98)
    other_order = known(*before_final(), begun, worker=TEAM)
    assert not FINAL.wants(task, other_order, mine)
    turned = dataclasses.replace(task, starts_first=True)
    assert FINAL.wants(turned, other_order, mine)


@pytest.mark.parametrize(("about", "counts"), [(configuration_key(BEST), True), ("", False)])
def test_the_guard_counts_for_its_own_configuration_only(about: str, counts: bool) -> None:
    """A later final may have another finalist, which the guard has not checked."""
    now: Known = dataclasses.replace(
        known(*before_final(), *pairs(1.3, 1.31, 1.3, 1.31)),
        numerics=Numerics(differs=True, text="", about=about),
    )
    decision = decide_on(now)
    assert decision is not None
    assert decision.verdict is Verdict.FASTER
    assert (decision.numerics is not None) is counts
