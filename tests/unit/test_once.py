"""Values that are found once: remembered values, the leader, and the workers that wait."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from autotuner.stages.once import Once, once
from autotuner.stages.session import Session
from autotuner.study.events import Remark
from autotuner.study.memory import SUMMARY, Key, Memory, Summary
from autotuner.study.record import Role, TrialRecord
from autotuner.study.target import Target
from autotuner.study.trials import TrialLostError, Trials
from autotuner.study.workers import Workers
from tests.fakes import BUILD, machine
from tests.plans import preparation, running

FOUND = Summary(text="found", trials=1)


@dataclasses.dataclass
class Study:
    """The state that all workers of a study share, as plain values."""

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    records: list[TrialRecord] = dataclasses.field(default_factory=list)
    leads: bool = True
    waits: int = 0
    turns: int = 0
    remarks: list[str] = dataclasses.field(default_factory=list)
    while_waiting: Callable[[], None] = lambda: None

    def read(self, key: Key[Any]) -> Any:
        return self.values.get(key.name)

    def write(self, key: Key[Any], value: Any) -> None:
        self.values[key.name] = value

    def others_run(self, roles: frozenset[Role]) -> bool:
        return any(r.is_running and r.role in roles for r in self.records)

    def is_leader(self) -> bool:
        return self.leads

    def wait(self) -> None:
        self.waits += 1
        assert self.waits < 10
        self.while_waiting()

    def sweep(self) -> int:
        return 0

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        self.turns += 1
        yield

    def session(self) -> Session:
        """Return a session of one worker."""

        class Log:
            records = staticmethod(lambda: self.records)
            others_run = self.others_run
            sweep = self.sweep

        target = Target(
            spec=cast(Any, None),
            machine=machine(),
            build=BUILD,
            python=Path("python"),
            folder=Path("s"),
        )
        return Session(
            target=target,
            trials=cast(Trials, Log()),
            memory=cast(Memory, self),
            lab=cast(Any, None),
            runner=cast(Any, None),
            workers=cast(Workers, self),
            on_event=lambda event: self.remarks.append(cast(Remark, event).text),
            turn=self.turn,
            elapsed_s=lambda: 0.0,
        )


def task(found: Summary | None = FOUND, **fields: object) -> Once[Summary]:
    """Return a value to find once."""
    return Once(key=SUMMARY, find_out=lambda session: found, **fields)  # type: ignore[arg-type]


def test_the_leader_finds_a_value_and_the_study_remembers_it() -> None:
    """The value is found within a turn; the second time nothing is measured."""
    study = Study()
    assert once(study.session(), task()) == FOUND
    assert study.values == {"summary": FOUND}
    other = Summary(text="another", trials=2)
    assert once(study.session(), task(other)) == FOUND
    assert study.turns == 1


def test_others_wait_for_the_leader() -> None:
    """They return the value that the leader has found."""
    study = Study(leads=False)

    def find() -> None:
        if study.waits == 3:
            study.values["summary"] = FOUND

    study.while_waiting = find
    assert once(study.session(), task(None)) == FOUND
    assert (study.waits, study.turns) == (3, 0)


def test_a_worker_that_becomes_the_leader_takes_over() -> None:
    """The previous leader has died without a result."""
    study = Study(leads=False)

    def inherit() -> None:
        study.leads = study.waits == 2

    study.while_waiting = inherit
    assert once(study.session(), task()) == FOUND
    assert study.waits == 2


def test_a_trial_of_a_living_worker_is_waited_for() -> None:
    """A new leader does not repeat what the old one is still measuring."""
    study = Study(records=[running(0, Role.DEFAULT)])

    def end() -> None:
        study.records = preparation()

    study.while_waiting = end
    assert once(study.session(), task(roles=frozenset({Role.DEFAULT}))) == FOUND
    assert study.waits == 1


def test_a_value_that_another_worker_finds_first_is_read_again() -> None:
    """In this case ``find_out`` returns None."""
    study = Study()

    def find() -> None:
        study.values["summary"] = FOUND

    study.while_waiting = find
    assert once(study.session(), task(None)) == FOUND


def test_a_worker_taken_for_dead_looks_again() -> None:
    """Its trial was failed by another worker: that is a remark, and no bug."""
    study, lost = Study(), [True]

    def find(session: Session) -> Summary:
        if lost.pop():
            lost.append(False)
            raise TrialLostError("trial 3 is lost")
        return FOUND

    what = Once(key=SUMMARY, find_out=find)
    assert once(study.session(), what) == FOUND
    assert study.waits == 1
    assert study.remarks == ["trial 3 is lost"]


@pytest.mark.parametrize("holds", [True, False])
def test_a_value_that_no_longer_holds_is_found_again(holds: bool) -> None:
    """An example is the facts of defaults whose trial never ended."""
    old = Summary(text="old", trials=0)
    study = Study(values={"summary": old})
    found = once(study.session(), task(holds=lambda value, records: holds))
    assert found == (old if holds else FOUND)
