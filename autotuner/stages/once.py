"""What is found out once for all workers of a study, and remembered in it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from autotuner.stages.session import Session
from autotuner.study.memory import Key
from autotuner.study.record import Role, TrialRecord

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Once(Generic[T]):
    """Something to find out.

    ``key``: where the study remembers it. ``find_out``: returns it; None if another worker is about
    to find out. ``roles``: it is not looked for while another worker has trials of these running.
    ``holds``: whether a remembered value holds for the trials so far.
    """

    key: Key[T]
    find_out: Callable[[Session], T | None]
    roles: frozenset[Role] = frozenset()
    holds: Callable[[T, Sequence[TrialRecord]], bool] = lambda value, records: True


def once(session: Session, what: Once[T]) -> T:
    """Return what is remembered; else the leader finds it out, and all others wait."""
    while True:
        known = session.memory.read(what.key)
        if known is not None and what.holds(known, session.trials.records()):
            return known
        if session.workers.is_leader() and not session.trials.others_run(what.roles):
            with session.turn():
                found = what.find_out(session)
            if found is not None:
                session.memory.write(what.key, found)
                return found
        session.wait()
