"""What is left of trials and time, from records alone."""

import dataclasses
from pathlib import Path

import pytest

from autotuner.options.study_spec import Effort, StudySpec
from autotuner.study.budget import Budget
from autotuner.study.record import Role, TrialRecord
from tests.plans import pair, point, preparation, running, trial


def budget(*records: TrialRecord, elapsed_s: float = 0.0, **fields: object) -> Budget:
    """Return the budget of a study with some trials."""
    asked = {"effort": Effort.BALANCED, **fields}
    spec = StudySpec(model=Path("m.py"), **asked)  # type: ignore[arg-type]
    return Budget(spec=spec, records=records, elapsed_s=elapsed_s)


def test_ended_and_running_trials_count() -> None:
    """Controls, races, finals and withdrawn trials do not count as trials of the search."""
    records = [*preparation(), running(4, Role.SEARCH, point(2)), trial(5, Role.RACE, point(2))]
    assert budget(*records, trials=10).trials_left == 10 - 3
    assert budget(*records).most_trials == 25
    assert budget(*records, budget_s=60.0).most_trials is None
    assert budget(*records, budget_s=60.0).trials_left == 1


def test_time_is_held_back_for_race_and_final() -> None:
    """The reserve is six race trials and six pairs of twice a trial's length, up to about half."""
    held_back = (6 + 6 * 2) * 10.0
    for elapsed_s, fits in ((0.0, True), (395.0 - held_back, True), (401.0 - held_back, False)):
        now = budget(*preparation(), budget_s=410.0, elapsed_s=elapsed_s)
        assert now.has_time is fits
    assert budget(*preparation(), budget_s=100.0, elapsed_s=30.0).has_time
    assert budget(*preparation(), elapsed_s=1e6).has_time  # no limit


def test_pairs_last_as_long_as_those_before() -> None:
    """Before the first pair, a pair is expected to take twice as long as a trial."""
    none = budget(*preparation(), budget_s=100.0, elapsed_s=79.0)
    assert none.has_time_for_pairs(1)
    assert not none.has_time_for_pairs(2)
    long = pair(10, 1.3, first=True, configuration=point(2), elapsed_s=50.0)
    assert not budget(*preparation(), *long, budget_s=100.0, elapsed_s=60.0).has_time_for_pairs()


def test_forked_trials_are_shorter_than_those_of_the_race() -> None:
    """The next trial of the search is like the latest one; race and final start their processes."""
    forked = [trial(4 + k, Role.SEARCH, point(1 + k), forked=True, elapsed_s=2.0) for k in range(3)]
    now = budget(*preparation(), *forked, budget_s=410.0, elapsed_s=410.0 - 180.0 - 5.0)
    assert now.has_time
    started = budget(*preparation(), budget_s=410.0, elapsed_s=410.0 - 180.0 - 5.0)
    assert not started.has_time


def test_the_part_that_is_done() -> None:
    """By trials or by time, whichever is larger; at most 1."""
    assert budget().part_done == 0.0
    assert budget(*preparation(), budget_s=100.0, elapsed_s=50.0).part_done == 0.5
    assert budget(elapsed_s=200.0, budget_s=100.0).part_done == 1.0
    by_trials = budget(*preparation(), trials=10)
    assert by_trials.part_done == pytest.approx(4 / (10 + 2 + 6 + 12))


def test_expected_trials() -> None:
    """The expected number is the limit on trials, or the time over that of a started trial."""
    assert budget(*preparation(), trials=10).trials_expected == 8
    assert budget(*preparation(), budget_s=610.0, elapsed_s=30.0).trials_expected == 40
    failed = [dataclasses.replace(r, gain=None) for r in preparation()]
    assert budget(*failed, budget_s=600.0).trials_expected > 1000  # no length is known
