"""What the search tries next, from records alone."""

import dataclasses
from datetime import timedelta

import pytest
from optuna.trial import TrialState

from autotuner.knobs.knob import Configuration, IntRange
from autotuner.options.study_spec import SamplerName
from autotuner.stages.known import Known, Worker
from autotuner.stages.search import Search, control_is_due, enumerates, lost_configurations
from autotuner.study.diagnosis import Bottleneck, Diagnosis
from autotuner.study.noise import Method
from autotuner.study.record import Role, Task, TrialRecord
from autotuner.study.space import Space
from tests.plans import (
    DEFAULT,
    FACTS,
    NOISE,
    NOON,
    SPACE,
    known,
    point,
    preparation,
    running,
    trial,
)

SEARCH = Search()
BOUND = Diagnosis(bottleneck=Bottleneck.OVERHEAD, waits=0.0, overhead=1.0, compute=0.0, sentence="")
LARGE = Space(
    domains={"intra_op": IntRange(1, 64), "inter_op": IntRange(1, 64)},
    default={"intra_op": 64, "inter_op": 64},
    recipe={"intra_op": 64, "inter_op": 1},
)


def lost(number: int, configuration: Configuration) -> TrialRecord:
    """Return a trial of a dead worker."""
    return trial(
        number, Role.SEARCH, configuration, None, state=TrialState.FAIL, status=None, lost=True
    )


def next_configuration(now: Known) -> Configuration | None:
    """Return the configuration to try next."""
    task = SEARCH.next_task(now)
    return None if task is None else task.configuration


def wants(configuration: Configuration | None, now: Known, mine: TrialRecord) -> bool:
    """Return whether a trial is still wanted after the trials added before it."""
    return SEARCH.wants(Task(role=Role.SEARCH, configuration=configuration), now, mine)


def test_nothing_without_trials_or_time() -> None:
    """There is no task once the trials or the time are used up."""
    assert SEARCH.next_task(known(*preparation(), trials=2)) is None
    late = known(*preparation(), trials=None, budget_s=100.0, elapsed_s=90.0)
    assert SEARCH.next_task(late) is None
    assert SEARCH.next_task(known(*preparation(), trials=None, budget_s=3600.0)) is not None


def test_a_lost_configuration_comes_first() -> None:
    """It is tried once more, unless it was measured since or lost twice."""
    gone = lost(4, point(3, 3))
    assert next_configuration(known(*preparation(), gone)) == point(3, 3)
    again = trial(5, Role.SEARCH, point(3, 3))
    assert lost_configurations([gone], DEFAULT) == [point(3, 3)]
    assert lost_configurations([gone, again], DEFAULT) == []
    assert lost_configurations([gone, lost(5, point(3, 3))], DEFAULT) == []


def test_the_diagnosis_suggests_before_the_model_does() -> None:
    """For short steps, one thread is tried first."""
    now = dataclasses.replace(known(*preparation()), diagnosis=BOUND)
    assert next_configuration(now) == point(1, 1)
    tried = trial(4, Role.SEARCH, point(1, 1), 0.9)
    after = dataclasses.replace(known(*preparation(), tried), diagnosis=BOUND)
    assert next_configuration(after) != point(1, 1)


def test_a_small_space_is_enumerated() -> None:
    """Every point is tried once; then the search ends, though trials are left."""
    now = known(*preparation(), trials=100)
    assert enumerates(now)
    records = preparation()
    for number in range(4, 100):
        task = SEARCH.next_task(known(*records, trials=100))
        if task is None:
            break
        records.append(trial(number, Role.SEARCH, task.configuration))
    assert len({record.key(DEFAULT) for record in records}) == SPACE.size == 16
    assert len(records) == 4 + 16 - 2  # the default and the recipe were measured before


def test_the_model_proposes_what_it_expects_most_of() -> None:
    """The task holds the expected improvement."""
    task = SEARCH.next_task(known(*preparation()))
    assert task is not None
    assert task.expected is not None
    assert task.expected > 0
    assert SEARCH.next_task(known(*preparation())) == task  # pure


def test_an_optuna_sampler_suggests_after_the_trial_is_added() -> None:
    """The configuration is not known when the trial is planned."""
    task = SEARCH.next_task(known(*preparation(), sampler=SamplerName.TPE))
    assert task is not None
    assert task.configuration is None


@pytest.mark.parametrize(("hopes", "ends"), [((0.001,) * 4, True), ((0.001,) * 3 + (0.1,), False)])
def test_the_search_ends_when_little_is_expected(hopes: tuple[float, ...], ends: bool) -> None:
    """It ends after four proposals in a row that promise too little to be worth a trial."""
    facts = dataclasses.replace(FACTS, space=LARGE)
    tried = [
        trial(4 + k, Role.SEARCH, {"intra_op": 2 + k, "inter_op": 2}, expected=hope)
        for k, hope in enumerate(hopes)
    ]
    now = dataclasses.replace(
        known(*preparation(), *tried, trials=None, budget_s=3600.0), facts=facts
    )
    assert (SEARCH.next_task(now) is None) is ends
    by_number = dataclasses.replace(now, spec=dataclasses.replace(now.spec, trials=50))
    assert SEARCH.next_task(by_number) is not None


def test_controls_without_duels() -> None:
    """Without duels, the defaults run again after every four trials of this machine."""
    alone = dataclasses.replace(NOISE, method=Method.SEQUENTIAL)
    tried = [trial(4 + k, Role.SEARCH, point(1 + k)) for k in range(3)]
    assert control_is_due(known(*preparation(), *tried, noise=alone))
    assert not control_is_due(known(*preparation(), *tried[:2], noise=alone))
    assert not control_is_due(known(*preparation(), *tried, noise=NOISE))
    elsewhere = Worker(key="me", machine="another")
    assert control_is_due(known(*preparation(), noise=alone, worker=elsewhere))
    task = SEARCH.next_task(known(*preparation(), *tried, noise=alone))
    assert task == Task(role=Role.CONTROL, configuration={})
    assert SEARCH.wants(task, known(), running(9, Role.CONTROL))


def test_the_first_of_two_keeps_a_configuration() -> None:
    """The later of two trials of the same configuration is withdrawn."""
    mine = running(5, Role.SEARCH, point(2))
    assert not wants(point(2), known(running(4, Role.SEARCH, point(2))), mine)
    assert wants(point(2), known(running(4, Role.SEARCH, point(1))), mine)
    assert wants(point(2), known(), mine)
    undecided = running(4, Role.SEARCH, undecided=True)
    assert wants(point(2), known(undecided), mine)


def test_a_repeat_of_a_known_result_is_wanted() -> None:
    """Only a result that came after the trial was added makes it a needless repeat."""
    done = trial(4, Role.SEARCH, point(2))
    assert done.ended is not None
    hasty = dataclasses.replace(
        running(5, Role.SEARCH, point(2)), started=done.ended - timedelta(seconds=1)
    )
    assert not wants(point(2), known(done), hasty)
    assert wants(point(2), known(done), dataclasses.replace(hasty, started=done.ended))
    assert done.ended > NOON


def test_the_number_of_trials_is_exact() -> None:
    """Only the trials before this one count against the limit."""
    three = [running(n, Role.SEARCH, point(n)) for n in (1, 2, 3)]
    assert not wants(point(3), known(*three[:2], trials=2), three[2])
    assert wants(point(2), known(three[0], trials=2), three[1])


def test_workers_that_plan_at_the_same_moment_take_different_points() -> None:
    """Each picks among the first points, as many as there are workers."""
    lanes = [Worker(key="me", machine="h", shared=True, count=3, lane=lane) for lane in range(4)]
    tasks = [next_configuration(known(*preparation(), worker=worker)) for worker in lanes]
    assert len({str(task) for task in tasks}) == 3
    assert tasks[3] == tasks[0]
