"""The sittings of a study: how long it has taken so far, and what is left of a cut-off budget."""

from collections.abc import Iterable
from datetime import datetime

import optuna

from autotuner.study.bulk import AnyTrial

_GAP_S = 60.0
_ATTRIBUTE = "unfinished_since"


def begin_sitting(study: optuna.Study, *, anew: bool) -> float:
    """Note that a run begins; return the seconds that it has spent before it was cut off.

    Args:
        study: the study.
        anew: it has another budget than the one that was cut off, so that is another run.
    """
    if anew or study.user_attrs.get(_ATTRIBUTE) is None:
        study.set_user_attr(_ATTRIBUTE, datetime.now().isoformat())
        return 0.0
    return spent_in_sitting_s(study)


def spent_in_sitting_s(study: optuna.Study) -> float:
    """Return what the run that goes on, or was cut off, has spent so far, in seconds."""
    since = study.user_attrs.get(_ATTRIBUTE)
    if since is None:
        return 0.0
    begun = datetime.fromisoformat(since)
    trials = study.get_trials(deepcopy=False)
    return time_spent_s(t for t in trials if t.datetime_start and t.datetime_start >= begun)


def finish_sitting(study: optuna.Study) -> None:
    """Note that a run has come to its end: the next one has its budget to itself."""
    study.set_user_attr(_ATTRIBUTE, None)


def time_spent_s(trials: Iterable[AnyTrial]) -> float:
    """Return how long trials took by the clock, with short gaps between them, in seconds."""
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
