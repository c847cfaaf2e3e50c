"""The rows of the service's queue in a storage: Optuna studies with a trial for each row.

A row waits, runs and ends. Optuna starts a waiting trial for one process only, so several machines
can serve one queue. See :mod:`autotuner.service.queue` for what the rows mean.

Optuna removes studies, not trials. So rows are kept in segments, each a study; new rows go into the
last one, and old ones are removed as soon as all their rows have ended. Two attributes of the queue
hold the numbers of the first and the last segment. A row is never lost: a segment is closed, by a
higher number of the last one, before its rows are looked at, and a process that has added a row to
a segment which was closed meanwhile takes it back and adds it again.
"""

import contextlib
import dataclasses
import enum
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotuner.options.names import QUEUE, is_reserved
from autotuner.study.storage import DatabaseFile, Storage

_FIRST, _LAST = "first segment", "last segment"
_UNWANTED = "segments to remove"
_MOST_ROWS = 250
_STRIDE = 10_000
"""Between the numbers of the first rows of two segments."""


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
    """Reads and writes the queue of one storage.

    ``study``: holds the signatures of its workers. ``changes``: the number of changes by this
    process.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._file = DatabaseFile(storage)
        self.study = optuna.create_study(study_name=QUEUE, storage=storage, load_if_exists=True)
        self._segments: dict[int, optuna.Study] = {}
        self._ended: dict[int, list[Row]] = {}
        self.changes = 0

    def rows(self) -> list[Row]:
        """Return all rows, the oldest first."""
        first, last = self._bounds()
        for segment in [one for one in self._ended if one < first]:
            del self._ended[segment]
        return [row for k in range(first, last + 1) for row in self._rows(k, is_last=k == last)]

    def _bounds(self) -> tuple[int, int]:
        attributes = self.attributes()
        return attributes.get(_FIRST, 0), attributes.get(_LAST, 0)

    def _rows(self, segment: int, *, is_last: bool) -> list[Row]:
        if segment in self._ended:
            return self._ended[segment]
        try:
            # Optuna caches the trials that have ended, so only the others are read
            trials = self._segment(segment, create=is_last).get_trials(deepcopy=False)
        except KeyError:  # it has just been removed
            self._segments.pop(segment, None)
            return []
        rows = [_row(trial, segment) for trial in trials]
        if not is_last and all(row.stage is Stage.ENDED for row in rows):
            self._ended[segment] = rows
        return rows

    def _segment(self, segment: int, *, create: bool = False) -> optuna.Study:
        """Return a segment. Raises KeyError if there is none."""
        if segment not in self._segments:
            open_study = optuna.create_study if create else optuna.load_study
            more = {"load_if_exists": True} if create else {}
            self._segments[segment] = open_study(
                study_name=f"{QUEUE}-{segment}",
                storage=self._storage,
                **more,  # type: ignore[arg-type]
            )
        return self._segments[segment]

    def row(self, number: int) -> Row:
        """Return one row."""
        return _row(self._storage.get_trial(self._id(number)), number // _STRIDE)

    def add(self, attributes: Mapping[str, Any]) -> int:
        """Add a waiting row, and return its number."""
        template = create_trial(state=TrialState.WAITING, user_attrs=dict(attributes))
        while True:
            _, last = self._bounds()
            try:
                study_id = self._segment(last, create=True)._study_id
                trial_id = self._storage.create_new_trial(study_id, template)
                number = last * _STRIDE + self._storage.get_trial_number_from_id(trial_id)
            except KeyError:  # it was closed and removed meanwhile
                self._segments.pop(last, None)
                continue
            if self._bounds()[1] == last or not self._take_back(number):
                self.changes += 1
                return number

    def _take_back(self, number: int) -> bool:
        """End a row that is to be added again; return False if another process has started it."""
        try:
            trial_id = self._id(number)
            if not self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        except KeyError:  # it was removed before another process saw it
            return True
        self.write(number, "duplicate", True)
        self.end(number, succeeded=False)
        return True

    def forget(self, *, keep: int = 1, close: bool = False) -> int:
        """Remove segments whose rows have all ended; return the number of their rows.

        Args:
            keep: the number of full segments to keep.
            close: close the last segment, too, though it is not full, and keep none that is closed
                now: those with rows that wait or run are removed by a later call.
        """
        first, last = self._bounds()
        if len(self._rows(last, is_last=True)) >= (1 if close else _MOST_ROWS):
            last += 1
            self.set_attribute(_LAST, last)
        if close:
            self.set_attribute(_UNWANTED, last)
        removed, contiguous = 0, True
        for segment in range(first, max(last - keep, self.attributes().get(_UNWANTED, 0))):
            rows = self._rows(segment, is_last=False)
            if any(row.stage is not Stage.ENDED for row in rows):
                contiguous = False
                continue
            with contextlib.suppress(KeyError):  # another process was quicker
                optuna.delete_study(study_name=f"{QUEUE}-{segment}", storage=self._storage)
            self._segments.pop(segment, None)
            self._ended.pop(segment, None)
            if contiguous:
                self.set_attribute(_FIRST, segment + 1)
            self.changes += 1
            removed += len(rows)
        return removed

    def start(self, number: int) -> bool:
        """Start a waiting row; return False if another process was quicker."""
        return self._set_state(number, TrialState.RUNNING)

    def write(self, number: int, name: str, value: object) -> bool:
        """Write an attribute of a row; return False if the row has ended."""
        try:
            self._storage.set_trial_user_attr(self._id(number), name, value)
        except (UpdateFinishedTrialError, KeyError):
            return False
        finally:
            self.changes += 1
        return True

    def end(self, number: int, *, succeeded: bool) -> bool:
        """End a row; return False if it has ended already."""
        if succeeded:
            return self._set_state(number, TrialState.COMPLETE, [1.0])
        return self._set_state(number, TrialState.FAIL)

    def attributes(self) -> Mapping[str, Any]:
        """Return the attributes of the queue itself."""
        self._file.check()
        return self.study.user_attrs

    def set_attribute(self, name: str, value: object) -> None:
        """Write an attribute of the queue itself."""
        self._file.check()
        self.study.set_user_attr(name, value)

    def _set_state(self, number: int, state: TrialState, values: list[float] | None = None) -> bool:
        try:
            return self._storage.set_trial_state_values(self._id(number), state, values)
        except (UpdateFinishedTrialError, KeyError):
            return False
        finally:
            self.changes += 1

    def _id(self, number: int) -> int:
        segment, place = divmod(number, _STRIDE)
        study_id = self._segment(segment)._study_id
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, place)


def _row(trial: FrozenTrial, segment: int) -> Row:
    stages = {TrialState.WAITING: Stage.WAITING, TrialState.RUNNING: Stage.RUNNING}
    return Row(
        number=segment * _STRIDE + trial.number,
        stage=stages.get(trial.state, Stage.ENDED),
        attributes=trial.user_attrs,
        started=trial.datetime_start,
    )


def visible(names: Iterable[str]) -> list[str]:
    """Return the names of studies that are not the queue's."""
    return [name for name in names if not is_reserved(name)]
