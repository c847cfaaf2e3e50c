"""The rows of the service's queue in a storage: an Optuna study with a trial for each row.

A row waits, runs and ends. Optuna starts a waiting trial for one process only, so
several machines can serve one queue. See :mod:`autotuner.service.queue` for what the rows mean.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotuner.study.storage import Storage

QUEUE = "autotune-queue"
"""The name of the queue's study, which lists of studies leave out."""


class Stage(enum.Enum):
    """The stage of a row."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the queue. ``started``: local time, None while it waits."""

    number: int
    stage: Stage
    attributes: Mapping[str, Any]
    started: datetime | None


class QueueStore:
    """Reads and writes the queue of one storage. ``study``: holds the signatures of its workers."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.study = optuna.create_study(study_name=QUEUE, storage=storage, load_if_exists=True)
        self._study_id = storage.get_study_id_from_name(QUEUE)

    def rows(self) -> list[Row]:
        """Return all rows, the oldest first."""
        # Optuna caches the trials that have ended, so only the others are read
        return [_row(trial) for trial in self.study.get_trials(deepcopy=False)]

    def row(self, number: int) -> Row:
        """Return one row."""
        return _row(self._storage.get_trial(self._id(number)))

    def add(self, attributes: Mapping[str, Any]) -> int:
        """Add a waiting row, and return its number."""
        template = create_trial(state=TrialState.WAITING, user_attrs=dict(attributes))
        trial_id = self._storage.create_new_trial(self._study_id, template)
        return self._storage.get_trial_number_from_id(trial_id)

    def start(self, number: int) -> bool:
        """Start a waiting row; return False if another process was quicker."""
        return self._set_state(number, TrialState.RUNNING)

    def write(self, number: int, name: str, value: object) -> bool:
        """Write an attribute of a row; return False if the row has ended."""
        try:
            self._storage.set_trial_user_attr(self._id(number), name, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def end(self, number: int, *, succeeded: bool) -> bool:
        """End a row; return False if it has ended already."""
        if succeeded:
            return self._set_state(number, TrialState.COMPLETE, [1.0])
        return self._set_state(number, TrialState.FAIL)

    def attributes(self) -> Mapping[str, Any]:
        """Return the attributes of the queue itself."""
        return self.study.user_attrs

    def set_attribute(self, name: str, value: object) -> None:
        """Write an attribute of the queue itself."""
        self.study.set_user_attr(name, value)

    def _set_state(self, number: int, state: TrialState, values: list[float] | None = None) -> bool:
        try:
            return self._storage.set_trial_state_values(self._id(number), state, values)
        except UpdateFinishedTrialError:
            return False

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _row(trial: FrozenTrial) -> Row:
    stages = {TrialState.WAITING: Stage.WAITING, TrialState.RUNNING: Stage.RUNNING}
    return Row(
        number=trial.number,
        stage=stages.get(trial.state, Stage.ENDED),
        attributes=trial.user_attrs,
        started=trial.datetime_start,
    )


def visible(names: Iterable[str]) -> list[str]:
    """Return the names of studies that are not the queue."""
    return [name for name in names if name != QUEUE]
