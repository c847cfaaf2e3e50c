"""The log of a study's trials: adds, finishes, withdraws and sweeps them.

The only user of Optuna's trial API. A trial is added together with its full description, and trials
are numbered in the order in which they were added. So all workers see the same earlier trials, and
of two workers with the same task the first one keeps it. This is Lamport's bakery algorithm (1974);
the storage assigns the numbers. A dying worker holds no lock, and every operation passes Optuna's
gRPC proxy.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotuner.codec import to_json
from autotuner.knobs.knob import Configuration
from autotuner.knobs.selection import effective
from autotuner.statistics.throughput import window_rates
from autotuner.study.artifacts import ArtifactStore, keep_trial_files
from autotuner.study.bulk import write_attributes, write_values
from autotuner.study.record import (
    Role,
    Side,
    TrialRecord,
    TrialResult,
    read_record,
    read_records,
    result_attributes,
    side_attributes,
)
from autotuner.study.space import Space, suggest
from autotuner.study.storage import make_durable
from autotuner.study.workers import GRACE_S, Workers, is_alive, worker_name
from autotuner.trial.outcome import Outcome

WITHDRAWN = "withdrawn"
"""The start of the reason of a trial that did not run because another worker was quicker."""

_LOST = "its autotune died"
_LOST_HERE = "other workers saw no sign of life of this one for a minute and gave its trial up"


class TrialLostError(Exception):
    """Another worker has taken this one for dead; the message is for the user."""


class Trials:
    """The trials of one study.

    Args:
        study: the study.
        storage: of the study.
        workers: of the study.
        limit_s: the longest duration of a trial, in seconds.
        artifacts: where trials' files are kept for the dashboard; None: nowhere.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        workers: Workers,
        *,
        limit_s: float,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        self._study = study
        self._storage = storage
        self._workers = workers
        self._limit_s = limit_s
        self._artifacts = artifacts
        self._read: list[TrialRecord] = []
        self._settled = 0
        self._sampler: BaseSampler | None = None
        self._mine: dict[int, optuna.Trial] = {}

    def records(self) -> list[TrialRecord]:
        """Return all trials so far."""
        trials = self._study.get_trials(deepcopy=False)
        # finished trials do not change, and there may be thousands: each is read once
        while self._settled < len(trials) and trials[self._settled].state.is_finished():
            self._read += read_records(trials[self._settled : self._settled + 1])
            self._settled += 1
        return [*self._read, *read_records(trials[self._settled :])]

    def others_run(self, roles: frozenset[Role]) -> bool:
        """Return whether other workers have trials of these roles running."""
        return any(
            record.is_running and record.role in roles and record.number not in self._mine
            for record in self.records()
        )

    def add(self, side: Side, space: Space | None, fixed: Configuration | None = None) -> int:
        """Add a trial that is about to run, and return its number.

        Args:
            side: the description of the trial.
            space: its knobs become Optuna's parameters; None: not known yet.
            fixed: values of knobs that the sampler must keep, for a trial that is added before its
                configuration is known.
        """
        full: Configuration = {}
        distributions: dict[str, BaseDistribution] = {}
        if space is not None and fixed is None:
            full = {**space.default, **(side.configuration or {})}
            distributions = space.distributions() if space.holds(full) else {}
        template = create_trial(
            state=TrialState.RUNNING,
            params={name: full[name] for name in distributions},
            distributions=distributions,
            user_attrs=side_attributes(side, self._workers.me.signature(self._limit_s)),
            system_attrs={} if fixed is None else {"fixed_params": dict(fixed)},
        )
        # through Optuna's cache in front of the database, which must know of the trial
        cached, study_id = self._study._storage, self._study._study_id
        trial = optuna.Trial(self._study, cached.create_new_trial(study_id, template))
        self._mine[trial.number] = trial
        return trial.number

    def add_imported(self, side: Side, result: TrialResult, value: float, space: Space) -> None:
        """Add a trial that another study has measured."""
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=value,
                params=dict(side.configuration or {}),
                distributions=space.distributions(),
                user_attrs={**side_attributes(side), **result_attributes(result)},
            )
        )

    def use_sampler(self, sampler: BaseSampler) -> None:
        """Let one of Optuna's samplers suggest configurations from now on."""
        self._sampler = sampler

    def suggest(self, number: int, side: Side, space: Space) -> Side:
        """Return a side with the configuration that the sampler in use suggests for it."""
        # a study object caches the trials that its sampler has seen, so a new one is loaded
        study = optuna.load_study(
            study_name=self._study.study_name,
            storage=self._storage,
            sampler=self._sampler,
            pruner=optuna.pruners.NopPruner(),
        )
        trial = optuna.Trial(study, self._mine[number]._trial_id)
        configuration = effective(suggest(trial, space), space.default)
        decided = dataclasses.replace(side, configuration=dict(configuration))
        write_attributes(self._storage, self._mine[number], {"task": to_json(decided)})
        return decided

    def keep_defaults(self, number: int, space: Space) -> None:
        """Give the trial of the defaults its parameters, once the space is known."""
        if space.holds(space.default):
            suggest(self._mine[number], space)

    def tell(
        self,
        number: int,
        outcome: Outcome,
        result: TrialResult,
        value: float | None,
        *,
        is_kept: bool = True,
    ) -> TrialRecord:
        """Store how a trial ended, and return its record.

        A failed trial gets the state PRUNED: samplers learn nothing from FAIL, and would return to
        where the script crashes.

        Args:
            number: of the trial.
            outcome: its raw measurement.
            result: the result to store.
            value: Optuna's; None if the trial does not count.
            is_kept: False for defaults that do not run, with which the study ends.
        """
        trial = self._mine[number]
        self._write(trial, outcome, result)
        state = TrialState.PRUNED if is_kept else TrialState.FAIL
        if value is not None:
            state = TrialState.COMPLETE
        values = None if value is None else (value,)
        self._storage.set_trial_state_values(trial._trial_id, state, values)
        make_durable(self._storage)
        return self.record(number)

    def _write(self, trial: optuna.Trial, outcome: Outcome, result: TrialResult) -> None:
        """Write a result; before the trial's state, as a finished trial can't be changed."""
        write_attributes(self._storage, trial, result_attributes(result))
        if result.throughput is not None:
            write_values(self._storage, trial, window_rates(outcome, result.throughput.unit))

    def keep_files(self, number: int, outcome: Outcome) -> str | None:
        """Keep a trial's log and windows for the dashboard; return why that failed, or None."""
        if self._artifacts is None:
            return None
        try:
            keep_trial_files(self._artifacts, self._mine[number], outcome)
        except OSError as error:  # the measurement is worth more than its log
            return f"the files of trial {number} can't be kept: {error}"
        return None

    def record(self, number: int) -> TrialRecord:
        """Return one trial, read anew."""
        record = read_record(self._frozen(number))
        if record is None:
            raise RuntimeError(f"trial {number} lost its role")
        return record

    def fail(self, number: int, reason: str) -> None:
        """Fail a trial that did not run to its end."""
        trial_id = self._trial_id(number)
        self._storage.set_trial_user_attr(trial_id, "reason", reason)
        self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def withdraw(self, number: int) -> None:
        """Fail a trial that was just added and is no longer wanted."""
        self.fail(number, f"{WITHDRAWN}: another worker was quicker, or the trials are used up")

    @contextmanager
    def running(self, number: int) -> Iterator[None]:
        """Fail a trial if the context is left by an exception.

        Raises:
            TrialLostError: if another worker has given this trial up meanwhile.
        """
        try:
            yield
        except UpdateFinishedTrialError as error:
            raise TrialLostError(f"trial {number} is lost: {_LOST_HERE}") from error
        except StorageInternalError:
            raise  # the next run sweeps the trial
        except BaseException as error:
            if not self._frozen(number).state.is_finished():
                self.fail(number, f"interrupted ({type(error).__name__})")
            raise
        finally:
            self._mine.pop(number, None)

    def sweep(self) -> int:
        """Fail trials that dead workers have left running; return their number."""
        unfinished = (TrialState.RUNNING, TrialState.WAITING)
        trials = self._study.get_trials(deepcopy=False, states=unfinished)
        signs = self._workers.signs() if trials else {}
        return sum(self._take_away(trial) for trial in trials if self._is_abandoned(trial, signs))

    def _is_abandoned(self, trial: FrozenTrial, signs: Mapping[str, Any]) -> bool:
        """Return whether no living worker runs a trial that has not ended."""
        owner = trial.user_attrs.get("owner", "")
        if not owner and self._workers.is_shared and trial.datetime_start is not None:
            # its worker may not have signed it yet
            return (datetime.now() - trial.datetime_start).total_seconds() > GRACE_S
        if self._workers.me.key in owner:
            # the storage added it, but the answer was lost
            return trial.number not in self._mine
        return not is_alive(owner, signs)

    def _take_away(self, trial: FrozenTrial) -> bool:
        """Fail a dead worker's trial; return whether it was running, and not failed already."""
        reason = f"{_LOST}: {worker_name(trial.user_attrs.get('owner', ''))}"
        try:
            self._storage.set_trial_user_attr(trial._trial_id, "lost", True)
            self.fail(trial.number, reason)
        except UpdateFinishedTrialError:
            return False  # another worker was quicker, or the owner lives
        return trial.state is TrialState.RUNNING

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study._storage.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        storage, study_id = self._study._storage, self._study._study_id
        return storage.get_trial_id_from_study_id_trial_number(study_id, number)


def before(number: int, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that count and were added before this one, which take precedence."""
    return [record for record in records if record.number < number and record.counts]
