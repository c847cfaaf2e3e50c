"""The race, from records alone."""

import dataclasses
import math

from autotuner.stages.race import Race, race_gains, shortlist, survivors
from autotuner.study.record import Role, Task, TrialRecord
from tests.plans import DEFAULT, SPACE, known, point, preparation, running, trial

RACE = Race()


def searched() -> list[TrialRecord]:
    """Return a search with three good configurations and a bad one."""
    gains = {(2, 4): 1.3, (3, 4): 1.28, (2, 3): 1.26, (1, 1): 0.7}
    tried = [
        trial(4 + k, Role.SEARCH, point(*values), gain)
        for k, (values, gain) in enumerate(gains.items())
    ]
    return [*preparation(), *tried]


def run_race(gains: dict[tuple[int, int], float | None]) -> list[TrialRecord]:
    """Run the race alone, each entrant as fast as given; return its trials."""
    records = searched()
    while (task := RACE.next_task(known(*records))) is not None:
        configuration = task.configuration or {}
        key = (int(configuration["intra_op"]), int(configuration["inter_op"]))
        done = trial(len(records), Role.RACE, configuration, gains[key], race_round=task.race_round)
        records.append(done)
        assert len(records) < 30
    return records[len(searched()) :]


def test_each_entrant_runs_once_in_each_round() -> None:
    """Three entrants that are equally fast, two rounds."""
    raced = run_race({(2, 4): 1.3, (3, 4): 1.3, (2, 3): 1.3})
    assert [r.race_round for r in raced] == [0, 0, 0, 1, 1, 1]
    for number in (0, 1):
        keys = [r.key(DEFAULT) for r in raced if r.race_round == number]
        assert len(set(keys)) == 3


def test_a_failed_entrant_leaves_the_race() -> None:
    """A failed entrant can't be recommended."""
    raced = run_race({(2, 4): None, (3, 4): 1.3, (2, 3): 1.3})
    failed = [r for r in raced if r.gain is None]
    assert len(failed) == 1
    assert len(raced) == 5


def test_the_race_ends_with_one_entrant_left() -> None:
    """Two of three fail in the first round."""
    raced = run_race({(2, 4): None, (3, 4): None, (2, 3): 1.3})
    assert {r.race_round for r in raced} == {0}


def test_the_next_round_waits_for_the_last_trial_of_this_one() -> None:
    """The next entrants depend on it; the race continues when it has ended."""
    first = run_race({(2, 4): 1.3, (3, 4): 1.3, (2, 3): 1.3})[:2]
    records = [*searched(), *first]
    last = RACE.next_task(known(*records))
    assert last is not None
    assert last.race_round == 0
    busy = running(10, Role.RACE, last.configuration, race_round=0)
    assert RACE.next_task(known(*records, busy)) is None
    ended = trial(10, Role.RACE, last.configuration, 1.3, race_round=0)
    after = RACE.next_task(known(*records, ended))
    assert after is not None
    assert after.race_round == 1


def test_no_race_without_rivals_or_a_final_or_time() -> None:
    """There is no race with one candidate, --pairs 0, or no time for pairs."""
    assert RACE.next_task(known(*preparation())) is None
    assert RACE.next_task(known(*searched(), pairs=0)) is None
    late = known(*searched(), trials=None, budget_s=1000.0, elapsed_s=995.0)
    assert RACE.next_task(late) is None


def test_an_entrant_that_another_worker_has_run_is_withdrawn() -> None:
    """Trials of other rounds, and of races before the latest search, do not matter."""
    task = Task(role=Role.RACE, configuration=point(2), race_round=0)
    mine = running(20, Role.RACE, point(2), race_round=0)
    theirs = running(19, Role.RACE, point(2), race_round=0)
    assert not RACE.wants(task, known(*searched(), theirs), mine)
    other_round = dataclasses.replace(theirs, race_round=1)
    assert RACE.wants(task, known(*searched(), other_round), mine)
    older = dataclasses.replace(theirs, number=3)
    assert RACE.wants(task, known(older, *searched()[4:]), mine)


def test_the_shortlist_prefers_estimates() -> None:
    """The shortlist also holds the recipe, if it is not far behind."""
    records = searched()
    low = {r.key(DEFAULT): math.log(1.01) for r in records if r.configuration == point(2)}
    chosen = shortlist(records, default=DEFAULT, recipe=SPACE.recipe, size=2, estimated=low)
    assert [c.configuration for c in chosen] == [point(3), point(2, 3)]
    near = [*records[:3], trial(3, Role.RECIPE, SPACE.recipe, 1.25), *records[4:]]
    chosen = shortlist(near, default=DEFAULT, recipe=SPACE.recipe, size=2, estimated=low)
    assert chosen[-1].configuration == SPACE.recipe


def test_survivors_are_near_the_leader() -> None:
    """Survivors are within the spread from process to process, the race's own if it is larger."""
    logs = {"a": [0.30, 0.31], "b": [0.29, 0.30], "c": [0.10, 0.11]}
    assert survivors(logs, 0.01) == {"a", "b"}
    assert survivors(logs, 0.2) == {"a", "b", "c"}
    assert survivors({"a": [0.5, 0.1], "b": [0.1, 0.3]}, 0.01) == {"a", "b"}


def test_gains_are_those_of_the_rounds_so_far() -> None:
    """Later rounds are left out, so all workers have the same survivors."""
    raced = run_race({(2, 4): 1.3, (3, 4): 1.3, (2, 3): 1.3})
    records = [*searched(), *raced]
    assert {len(logs) for logs in race_gains(records, DEFAULT, 0).values()} == {1}
    assert {len(logs) for logs in race_gains(records, DEFAULT).values()} == {2}
