"""How long a study has taken, and how much of its budget an interrupted run has used."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

import optuna

from autotuner.study.memory import UNFINISHED_SINCE, Memory

_GAP_S = 60.0


class Timed(Protocol):
    """A trial with Optuna's start and end times."""

    @property
    def datetime_start(self) -> datetime | None:
        """When it began."""

    @property
    def datetime_complete(self) -> datetime | None:
        """When it ended."""


def begin_run(study: optuna.Study, memory: Memory, *, anew: bool) -> float:
    """Store that a run begins; return the seconds that it used before it was interrupted.

    Args:
        study: the study.
        memory: of the study.
        anew: the budget has changed since the interrupted run, so this is a new run.
    """
    if anew or memory.read(UNFINISHED_SINCE) is None:
        memory.write(UNFINISHED_SINCE, datetime.now())
        return 0.0
    return spent_in_run_s(study, memory)


def spent_in_run_s(study: optuna.Study, memory: Memory) -> float:
    """Return the seconds that the run has used, the time before an interruption included."""
    begun = memory.read(UNFINISHED_SINCE)
    if begun is None:
        return 0.0
    trials = study.get_trials(deepcopy=False)
    return time_spent_s(t for t in trials if t.datetime_start and t.datetime_start >= begun)


def finish_run(memory: Memory) -> None:
    """Store that a run has finished: the next one has a budget of its own."""
    memory.write(UNFINISHED_SINCE, None)


def time_spent_s(trials: Iterable[Timed]) -> float:
    """Return the wall time of trials, short gaps between them included, in seconds."""
    spans = sorted(
        (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp())
        for trial in trials
        if trial.datetime_start is not None and trial.datetime_complete is not None
    )
    total, until = 0.0, 0.0
    for start, end in spans:
        begin = until if start - until <= _GAP_S else start
        total += max(0.0, end - begin)
        until = max(until, end)
    return total
