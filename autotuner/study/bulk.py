"""Reading and writing trials in a few queries, where Optuna runs one for each attribute.

Optuna makes an object of every attribute of every trial: 12 s for ten thousand trials, against 1 s
here. It also sets each attribute and each intermediate value in a transaction of its own: 3 ms on
PostgreSQL, and a trial has some forty of them. The tables are those of Optuna 5's schema; a test
compares the two.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import TrialState
from sqlalchemy import (
    DateTime,
    Enum,
    Float,
    Integer,
    String,
    and_,
    column,
    func,
    select,
    table,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import TableClause

from autotuner.study.retrying import retry

_FINITE = "FINITE"
_TRIALS = table(
    "trials",
    column("trial_id", Integer),
    column("study_id", Integer),
    column("number", Integer),
    column("state", String),
    column("datetime_start", DateTime),
    column("datetime_complete", DateTime),
)
_STUDIES = table("studies", column("study_id", Integer), column("study_name", String))
_STUDY_ATTRIBUTES = table(
    "study_user_attributes",
    column("study_id", Integer),
    column("key", String),
    column("value_json", String),
)
_ATTRIBUTES = table(
    "trial_user_attributes",
    column("trial_id", Integer),
    column("key", String),
    column("value_json", String),
)
_VALUES = table(
    "trial_intermediate_values",
    column("trial_id", Integer),
    column("step", Integer),
    column("intermediate_value", Float),
    column("intermediate_value_type", Enum(_FINITE, name="trialintermediatevaluetype")),
)
_INSERTS: Mapping[str, Callable[[TableClause], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """The stored fields of a trial, with the names of Optuna's FrozenTrial."""

    number: int
    state: TrialState
    user_attrs: dict[str, Any]
    datetime_start: datetime | None
    datetime_complete: datetime | None


AnyTrial = StoredTrial | optuna.trial.FrozenTrial


def count_trials(storage: BaseStorage) -> dict[str, int]:
    """Return the number of trials of every study by name, the oldest study first."""
    if not isinstance(storage, RDBStorage):
        every = storage.get_all_studies()
        return {one.study_name: len(storage.get_all_trials(one._study_id)) for one in every}
    found: dict[str, int] = retry(lambda: _count(storage))
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyState:
    """A study's trials, counted, and some of its attributes.

    ``ended``: the local time at which the last of its trials ended. ``attributes``: JSON texts.
    """

    trials: int
    ended: datetime | None
    attributes: Mapping[str, str]


def read_names(storage: BaseStorage) -> list[str]:
    """Return the names of all studies, the oldest first."""
    if not isinstance(storage, RDBStorage):
        return [one.study_name for one in storage.get_all_studies()]
    names = select(_STUDIES.c.study_name).order_by(_STUDIES.c.study_id)

    def read() -> list[str]:
        with storage.engine.connect() as connection:
            return list(connection.execute(names).scalars())

    found: list[str] = retry(read)
    return found


def read_states(
    storage: BaseStorage, names: Collection[str], keys: Collection[str]
) -> dict[str, StudyState]:
    """Return the states of studies by their names, in one query.

    Args:
        storage: the studies.
        names: some hundred at most; those without a study are left out.
        keys: of the attributes.
    """
    if not isinstance(storage, RDBStorage):
        known = {one.study_name: one for one in storage.get_all_studies()}
        return {n: _state_through_optuna(storage, known[n], keys) for n in names if n in known}
    found: dict[str, StudyState] = retry(lambda: _states(storage, names, keys))
    return found


def read_trials(storage: BaseStorage, study: optuna.Study) -> Sequence[AnyTrial]:
    """Return all trials of a study, by their numbers."""
    if not isinstance(storage, RDBStorage):
        return study.get_trials(deepcopy=False)
    study_id = storage.get_study_id_from_name(study.study_name)
    found: list[StoredTrial] = retry(lambda: _read(storage, study_id))
    return found


def write_attributes(
    storage: BaseStorage, trial: optuna.Trial, attributes: Mapping[str, Any]
) -> None:
    """Set user attributes of a running trial, all of them or none."""
    rows = [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
    if _can_insert(storage):
        retry(lambda: _write(storage, _ATTRIBUTES, "key", trial._trial_id, rows))
        return
    for key, value in attributes.items():
        storage.set_trial_user_attr(trial._trial_id, key, value)


def write_values(storage: BaseStorage, trial: optuna.Trial, values: Sequence[float]) -> None:
    """Report the intermediate values of a running trial from step 0 on; they must be finite."""
    if _can_insert(storage):
        rows = [
            {"step": step, "intermediate_value": value, "intermediate_value_type": _FINITE}
            for step, value in enumerate(values)
        ]
        retry(lambda: _write(storage, _VALUES, "step", trial._trial_id, rows))
        return
    for step, value in enumerate(values):
        storage.set_trial_intermediate_value(trial._trial_id, step, value)


def _can_insert(storage: BaseStorage) -> TypeGuard[RDBStorage]:
    return isinstance(storage, RDBStorage) and storage.engine.dialect.name in _INSERTS


def _write(
    storage: RDBStorage,
    into: TableClause,
    key: str,
    trial_id: int,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Insert rows of a trial, or update those whose key exists."""
    if not rows:
        return
    insert = _INSERTS[storage.engine.dialect.name]
    new = insert(into).values([{"trial_id": trial_id, **row} for row in rows])
    change = {name: new.excluded[name] for name in rows[0] if name != key}
    upsert = new.on_conflict_do_update(index_elements=["trial_id", key], set_=change)
    state = select(_TRIALS.c.state.cast(String)).where(_TRIALS.c.trial_id == trial_id)
    with storage.engine.begin() as connection:
        now = TrialState[connection.execute(state).scalar_one()]
        storage.check_trial_is_updatable(trial_id, now)
        connection.execute(upsert)


def _count(storage: RDBStorage) -> dict[str, int]:
    studies, trials = _STUDIES.c, _TRIALS.c
    count = (
        select(studies.study_name, func.count(trials.trial_id))
        .join_from(_STUDIES, _TRIALS, studies.study_id == trials.study_id, isouter=True)
        .group_by(studies.study_id, studies.study_name)
        .order_by(studies.study_id)
    )
    with storage.engine.connect() as connection:
        return {str(row[0]): int(row[1]) for row in connection.execute(count)}


def _states(
    storage: RDBStorage, names: Collection[str], keys: Collection[str]
) -> dict[str, StudyState]:
    studies, trials, attributes = _STUDIES.c, _TRIALS.c, _STUDY_ATTRIBUTES.c
    mine = trials.study_id == studies.study_id
    query = (
        select(
            studies.study_name,
            select(func.count(trials.trial_id)).where(mine).scalar_subquery(),
            select(func.max(trials.datetime_complete)).where(mine).scalar_subquery(),
            attributes.key,
            attributes.value_json,
        )
        .join_from(
            _STUDIES,
            _STUDY_ATTRIBUTES,
            and_(studies.study_id == attributes.study_id, attributes.key.in_(keys)),
            isouter=True,
        )
        .where(studies.study_name.in_(names))
    )
    found: dict[str, tuple[int, datetime | None, dict[str, str]]] = {}
    with storage.engine.connect() as connection:
        for name, count, ended, key, text in connection.execute(query):
            _, _, texts = found.setdefault(name, (count, ended, {}))
            if key is not None:
                texts[key] = text
    return {
        name: StudyState(trials=count, ended=_local(ended), attributes=texts)
        for name, (count, ended, texts) in found.items()
    }


def _state_through_optuna(
    storage: BaseStorage, study: FrozenStudy, keys: Collection[str]
) -> StudyState:
    trials = storage.get_all_trials(study._study_id, deepcopy=False)
    return StudyState(
        trials=len(trials),
        ended=max((t.datetime_complete for t in trials if t.datetime_complete), default=None),
        attributes={k: json.dumps(study.user_attrs[k]) for k in keys if k in study.user_attrs},
    )


def _read(storage: RDBStorage, study_id: int) -> list[StoredTrial]:
    trials, attributes = _TRIALS.c, _ATTRIBUTES.c
    mine = trials.study_id == study_id
    # PostgreSQL has an enumerated type for "state", which is read as text
    fields = (trials.trial_id, trials.number, trials.state.cast(String))
    times = (trials.datetime_start, trials.datetime_complete)
    rows = select(*fields, *times).where(mine).order_by(trials.number)
    pairs = select(attributes.trial_id, attributes.key, attributes.value_json).join_from(
        _ATTRIBUTES, _TRIALS, attributes.trial_id == trials.trial_id
    )
    with storage.engine.connect() as connection:
        by_trial: dict[int, dict[str, Any]] = {}
        for trial_id, key, text in connection.execute(pairs.where(mine)):
            by_trial.setdefault(trial_id, {})[key] = json.loads(text)
        return [
            StoredTrial(
                number=number,
                state=TrialState[state],
                user_attrs=by_trial.get(trial_id, {}),
                datetime_start=_local(start),
                datetime_complete=_local(end),
            )
            for trial_id, number, state, start, end in connection.execute(rows)
        ]


def _local(utc: datetime | None) -> datetime | None:
    """Return a time as a FrozenTrial holds it: local and naive."""
    return None if utc is None else utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
