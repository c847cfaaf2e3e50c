"""The usual candidates, from records alone."""

import dataclasses

from autotuner.stages.usual import UsualCandidates, usual_candidates
from autotuner.study.record import Role, Task
from autotuner.trial.outcome import Notice
from tests.plans import FACTS, SPACE, known, point, preparation, running, trial

USUAL = UsualCandidates()
OWN = Notice(kind="override", where="m.py:3", text="sets", knob="intra_op", value="2")


def test_recipe_then_what_the_script_sets() -> None:
    """Each runs once, and is not repeated after a failure."""
    now = dataclasses.replace(
        known(*preparation()[:3]), facts=dataclasses.replace(FACTS, notices=(OWN,))
    )
    assert USUAL.next_task(now) == Task(role=Role.RECIPE, configuration=SPACE.recipe)
    failed = trial(3, Role.RECIPE, SPACE.recipe, None)
    now = dataclasses.replace(now, records=[*now.records, failed])
    assert USUAL.next_task(now) == Task(role=Role.SCRIPT, configuration=point(2))
    now = dataclasses.replace(now, records=[*now.records, trial(4, Role.SCRIPT, point(2))])
    assert USUAL.next_task(now) is None


def test_equal_candidates_are_left_out() -> None:
    """A recipe equal to the defaults, and settings of the script equal to the recipe."""
    same = dataclasses.replace(SPACE, recipe=SPACE.default)
    assert usual_candidates(dataclasses.replace(FACTS, space=same)) == []
    inter = dataclasses.replace(OWN, knob="inter_op", value="1")
    found = usual_candidates(dataclasses.replace(FACTS, notices=(inter,)))
    assert [role for role, _ in found] == [Role.RECIPE]


def test_a_small_number_of_trials_leaves_them_out() -> None:
    """With one trial, only the defaults run."""
    assert USUAL.next_task(known(*preparation()[:3], trials=1)) is None


def test_one_worker_measures_it() -> None:
    """The second worker withdraws its trial; the search waits for neither."""
    task = Task(role=Role.RECIPE, configuration=SPACE.recipe)
    mine = running(4, Role.RECIPE, SPACE.recipe)
    assert not USUAL.wants(task, known(running(3, Role.RECIPE, SPACE.recipe)), mine)
    assert USUAL.wants(task, known(*preparation()[:3]), mine)
    assert not USUAL.wants(task, known(*preparation()[:3], trials=1), mine)
    assert USUAL.roles == frozenset()
    assert not USUAL.awaits_others(known())
