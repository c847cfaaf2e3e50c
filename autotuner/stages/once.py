"""Values that one worker finds for all workers of a study, and that the study remembers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from autotuner.stages.session import Session
from autotuner.study.memory import Key
from autotuner.study.record import Role, TrialRecord
from autotuner.study.trials import TrialLostError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Once(Generic[T]):
    """A value that is found once.

    ``key``: where the study remembers it. ``find_out``: returns it; None if another worker is about
    to find it. ``roles``: the leader waits while another worker runs trials of these roles.
    ``holds``: returns whether a remembered value still holds, given the trials so far.
    """

    key: Key[T]
    find_out: Callable[[Session], T | None]
    roles: frozenset[Role] = frozenset()
    holds: Callable[[T, Sequence[TrialRecord]], bool] = lambda value, records: True


def once(session: Session, what: Once[T]) -> T:
    """Return the remembered value; without one the leader finds it, and all others wait."""
    while True:
        known = session.memory.read(what.key)
        if known is not None and what.holds(known, session.trials.records()):
            return known
        if session.workers.is_leader() and not session.trials.others_run(what.roles):
            try:
                with session.turn():
                    found = what.find_out(session)
            except TrialLostError as error:
                session.remark(str(error))
                found = None  # another worker has taken this one for dead
            if found is not None:
                session.memory.write(what.key, found)
                return found
        session.wait()
