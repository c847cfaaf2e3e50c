"""The loop of a study: which trial comes next, run it, tell Optuna how it ended.

The tuner knows a :class:`autotuner.trial.runner.Runner`, not processes, and reports to a
:class:`autotuner.study.events.Listener`, not to a screen. A trial's value is the score of the
first trial of the defaults times the trial's gain over a reference that ran beside it, so that it
keeps its unit and the machine's drift is out of it.
"""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotuner.errors import ScriptFailedError
from autotuner.knobs.catalogue import KNOBS, default_configuration
from autotuner.knobs.knob import Build, Configuration
from autotuner.knobs.liveness import Evidence, EvidenceScope, find_liveness
from autotuner.knobs.selection import effective, select_knobs
from autotuner.machine.host import Machine
from autotuner.options.study_spec import StepSource, StudySpec
from autotuner.statistics.comparison import Comparison, corrected
from autotuner.statistics.shape import shape_notices
from autotuner.statistics.throughput import (
    Throughput,
    Unit,
    knows_samples,
    score_outcome,
    summarize,
    window_rates,
)
from autotuner.study.arena import Arena
from autotuner.study.artifacts import ArtifactStore, keep_trial_files
from autotuner.study.budget import SEARCH_ROLES, Budget
from autotuner.study.bulk import write_attributes, write_values
from autotuner.study.conflicts import TAKEN, before, objection
from autotuner.study.events import Listener
from autotuner.study.identity import identify
from autotuner.study.model_sampler import ModelSampler, being_measured
from autotuner.study.noise import Noise
from autotuner.study.record import (
    Measurement,
    Role,
    StudyFacts,
    Task,
    TrialRecord,
    configuration_key,
    outcome_attributes,
    read_noise,
    read_origin,
    read_record,
    read_records,
    read_study_facts,
    start_attributes,
    write_noise,
    write_study_facts,
)
from autotuner.study.space import Space, make_space, suggest
from autotuner.study.storage import make_durable
from autotuner.study.warm_check import (
    WarmCheck,
    read_warm_check,
    write_warm_check,
)
from autotuner.study.watch import Watch, limit_problem, unit_problem
from autotuner.study.workers import GRACE_S, Workers, is_alive, worker_name
from autotuner.trial.folder import check_disk
from autotuner.trial.inspect_script import inspect_script
from autotuner.trial.live_trial import time_allowed
from autotuner.trial.outcome import Outcome, Phase, Status
from autotuner.trial.request import RecordValues, TrialRequest, arguments_of, script_of
from autotuner.trial.runner import Runner

_SIDES = 2  # of a duel, one after the other until both are warm
_LOST = "its autotune died"
_PAIR_BITS = 48
WITHDRAWN = "withdrawn"
"""How the reason of a trial begins that was not run, as another worker was quicker."""

Turn = Callable[[], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything a tuner works with.

    ``artifacts``: where trials' files are kept, if they are. ``spent_s``: what earlier sittings of
    the same run, which were cut off, have used of its budget. ``space``: what is searched, where it
    is not the whole domains of the knobs: a replay knows a part of them only. ``workers``: who else
    works on the study; None: nobody. ``turn``: makes a context in which this process alone measures
    on this machine.
    """

    study: optuna.Study
    storage: BaseStorage
    spec: StudySpec
    machine: Machine
    build: Build
    python: Path
    folder: Path
    runner: Runner
    listener: Listener
    artifacts: ArtifactStore | None = None
    spent_s: float = 0.0
    space: Space | None = None
    workers: Workers | None = None
    turn: Turn = contextlib.nullcontext
    monotonic: Callable[[], float] = time.monotonic


class Tuner:
    """Runs the trials of one study. Leaving the context ends the resident process.

    ``study``: Optuna's. ``arena``: where configurations meet. ``budget``: what is left to spend.
    ``warm``: how trials of the search start. ``listener``: hears how the study gets on.
    ``workers``: who works on it.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.study = setting.study
        self.listener = setting.listener
        self.workers = setting.workers or Workers(
            setting.study, shared=False, machine=setting.machine.host, heard=self.remark
        )
        self.budget = Budget(setting.spec, self.records, setting.monotonic, setting.spent_s)
        self._facts = read_study_facts(setting.study)
        self._read: list[TrialRecord] = []
        self._settled = 0
        self._mine: set[int] = set()
        self._has_turn = False
        self._noise = read_noise(setting.study)
        self._plan = setting.spec.plan
        self._evidence = Evidence(scope=EvidenceScope.NOTHING)
        self.warm = WarmCheck(used=False, why="")
        folder = setting.folder / "residents"
        self.arena = Arena(
            setting.runner, self._request, folder, setting.listener, setting.monotonic
        )
        if self._noise is not None:
            self.arena.restore(self._noise)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.arena.dismiss()

    @property
    def facts(self) -> StudyFacts:
        """What holds for all trials; known once the default has run."""
        if self._facts is None:
            raise RuntimeError("the default has not run yet")
        return self._facts

    @property
    def noise(self) -> Noise:
        """The noise check's result; known once it has been made."""
        if self._noise is None:
            raise RuntimeError("the noise check has not been made yet")
        return self._noise

    @property
    def noise_if_known(self) -> Noise | None:
        """The noise check's result; None if it has not been made."""
        return self._noise

    @property
    def between(self) -> float:
        """Standard deviation of log gains from process to process; 0 while it is not known."""
        return 0.0 if self._noise is None else self._noise.between

    @property
    def spec(self) -> StudySpec:
        """What the study was asked to do."""
        return self._setting.spec

    @property
    def folder(self) -> Path:
        """The folder of the study's files."""
        return self._setting.folder

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only process that measures on this machine; within one turn that is so already.

        What to run is decided within it: others may have done it while this one has waited.
        """
        if self._has_turn:
            yield
            return
        with self._setting.turn():
            self._has_turn = True
            try:
                yield
            finally:
                self._has_turn = False

    def remark(self, text: str) -> None:
        """Tell the user something."""
        self.listener.remark(text)

    def records(self) -> list[TrialRecord]:
        """Return all trials so far."""
        trials = self.study.get_trials(deepcopy=False)
        # what is finished does not change any more, and there may be thousands: read once
        while self._settled < len(trials) and trials[self._settled].state.is_finished():
            self._read += read_records(trials[self._settled : self._settled + 1])
            self._settled += 1
        return [*self._read, *read_records(trials[self._settled :])]

    def sweep(self) -> int:
        """Fail trials that a dead worker has left running; return how many there were."""
        unfinished = (TrialState.RUNNING, TrialState.WAITING)
        trials = self.study.get_trials(deepcopy=False, states=unfinished)
        signs = self.workers.signs() if trials else {}
        return sum(self._take_away(trial) for trial in trials if self._is_abandoned(trial, signs))

    def _is_abandoned(self, trial: FrozenTrial, signs: Mapping[str, Any]) -> bool:
        """Tell whether nobody runs a trial that has not ended."""
        owned_by = trial.user_attrs.get("owner", "")
        if not owned_by and self.workers.is_shared and trial.datetime_start is not None:
            # somebody may be about to sign it
            return (datetime.now() - trial.datetime_start).total_seconds() > GRACE_S
        if self.workers.me.key in owned_by:
            # the storage has added it, but its answer got lost
            return trial.number not in self._mine
        return not is_alive(owned_by, signs)

    def _take_away(self, trial: FrozenTrial) -> bool:
        """Fail a dead worker's trial; return whether it was running, and not failed already."""
        reason = f"{_LOST}: {worker_name(trial.user_attrs.get('owner', ''))}"
        try:
            self._setting.storage.set_trial_user_attr(trial._trial_id, "lost", True)
            self._fail(trial.number, reason)
        except UpdateFinishedTrialError:
            return False  # another worker was quicker, or it was not dead
        return trial.state is TrialState.RUNNING

    def others_run(self, *roles: Role) -> bool:
        """Tell whether other workers have trials of these roles running."""
        running = (r for r in self.records() if r.is_running and r.number not in self._mine)
        return any(record.role in roles for record in running)

    def wait(self) -> None:
        """Wait for other workers to get on, and take from them what they will not finish."""
        self.workers.wait()
        self.sweep()

    def _fail(self, number: int, reason: str) -> None:
        storage, trial_id = self._setting.storage, self._trial_id(number)
        storage.set_trial_user_attr(trial_id, "reason", reason)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _record(self, number: int) -> TrialRecord:
        record = read_record(self.frozen(number))
        if record is None:
            raise RuntimeError(f"trial {number} lost its role")
        return record

    def frozen(self, number: int) -> FrozenTrial:
        """Return a trial as Optuna has it."""
        return self.study._storage.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        storage, study_id = self.study._storage, self.study._study_id
        return storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _withdraw(self, number: int, why: str) -> None:
        """End a trial that was just added, and is not to be run."""
        self._fail(number, f"{WITHDRAWN}: {why}")

    def run_defaults(self) -> None:
        """Run the inspection and TensorFlow's defaults, if that is missing.

        Nothing is known after it where another worker runs them.

        Raises:
            ScriptFailedError: if the script does not run with TensorFlow's defaults.
        """
        if self._facts is None:
            with self.turn():
                self._inspect()
            self._run_default()
        elif not any(r.role is Role.DEFAULT and r.gain is not None for r in self.records()):
            self._run_default()  # killed between the default's run and its telling
        if self._facts is not None:
            self.listener.facts_known(self._facts)

    def learn_facts(self) -> None:
        """Take over what other workers, or earlier sittings, have found out about the study."""
        self._facts = self._facts or read_study_facts(self.study)
        if self._noise is None:
            self._noise = read_noise(self.study)
            if self._noise is not None:
                self.arena.restore(self._noise)
        self.warm = read_warm_check(self.study.user_attrs) or self.warm

    @property
    def knows_facts(self) -> bool:
        """Whether the defaults have been run."""
        return self._facts is not None

    def _inspect(self) -> None:
        """Run the script for a moment to see which knobs can act on it."""
        if (self.spec.trials or self._plan.trials) <= 1:
            return  # nothing will be searched
        outcome, evidence = inspect_script(
            self._request({}, self._plan.measure_s),
            self._setting.folder / "inspection",
            self._setting.runner,
        )
        if outcome.status is Status.TIMED_OUT:
            raise _script_failed(outcome)
        if outcome.status is Status.MEASURED:
            self._evidence = evidence
        else:  # if the defaults fail as well, the user hears of them
            self.remark(
                f"which knobs can act is not known, as a short run failed: {outcome.reason}"
            )

    @property
    def knows_noise(self) -> bool:
        """Whether the noise check has been made."""
        return self._noise is not None

    def keep_noise(self, noise: Noise) -> None:
        """Keep what the noise check has found."""
        self._noise = noise
        write_noise(self.study, noise)

    def keep_warm_check(self, check: WarmCheck) -> None:
        """Keep how trials of the search start."""
        self.warm = check
        write_warm_check(self.study, check)

    def _keep_warm(self) -> None:
        """Note down and say if no more processes are forked from here on."""
        why = self._setting.runner.why_cold
        if self.warm.used and why:
            self.keep_warm_check(dataclasses.replace(self.warm, used=False, why=why))
            self.remark(f"warm start off from here on: {why}")

    def keep_method(self) -> None:
        """Let a study that is gone on with know that duels have been given up."""
        if self._noise is not None and self._noise.method is not self.arena.method:
            arena = self.arena
            self.keep_noise(dataclasses.replace(self._noise, method=arena.method, why=arena.why))

    def run_proposed(self) -> bool:
        """Run one trial of what the sampler proposes; return whether there was anything to run."""
        sampler = self.study.sampler
        with self.turn():
            if not isinstance(sampler, ModelSampler):
                self._run_suggested()
                return True
            proposed = sampler.proposals()
            taken = being_measured(self.records(), self.facts.space.default)  # by now
            free = [one for one in proposed if configuration_key(one) not in taken]
            if free:
                self.run_trial(Role.SEARCH, self.workers.pick(free))
            return bool(proposed)

    def _run_suggested(self) -> None:
        """Run a trial for which one of Optuna's samplers suggests the parameters: it needs one."""
        trial = self._add(Task(role=Role.SEARCH, configuration=None), {})
        with self._failing_if_interrupted(trial):
            if not self._is_ours(trial):
                return
            # a study remembers the trials that it has shown to its sampler until it is asked
            study = optuna.load_study(
                study_name=self.study.study_name,
                storage=self._setting.storage,
                sampler=self.study.sampler,
                pruner=optuna.pruners.NopPruner(),
            )
            space = self.facts.space
            suggested = suggest(optuna.Trial(study, trial._trial_id), space)
            configuration = effective(suggested, space.default)
            found = {"configuration": dict(configuration)}
            write_attributes(self._setting.storage, trial, found)
            if self._is_ours(trial):
                self._run(trial, Role.SEARCH, configuration)

    def run_trial(
        self, role: Role, configuration: Configuration, *, race_round: int | None = None
    ) -> TrialRecord | None:
        """Run one trial with a given configuration; the empty one is TensorFlow's defaults.

        Returns:
            its record; None if another worker does it.
        """
        with self.turn():
            trial = self._add(Task(role=role, configuration=configuration, race_round=race_round))
            with self._failing_if_interrupted(trial):
                if not self._is_ours(trial):
                    return None
                self._run(trial, role, configuration)
            return self._record(trial.number)

    def run_control(self) -> TrialRecord:
        """Run the defaults once more."""
        record = self.run_trial(Role.CONTROL, {})
        assert record is not None  # nobody has objections to it
        return record

    def _signed(self, task: Task) -> dict[str, Any]:
        limit_s = _SIDES * sum(time_allowed(self.spec.timing).values())
        owned_by = self.workers.me.signature(limit_s)
        return start_attributes(task, owner=owned_by, machine=self.workers.machine)

    def _add(self, task: Task, fixed: Configuration | None = None) -> optuna.Trial:
        """Add a trial with everything that says what it is, so that all see it from then on.

        Args:
            task: what it is.
            fixed: values of all knobs, for the time before it is known which are searched.
        """
        full: Configuration = {}
        distributions: dict[str, BaseDistribution] = {}
        if fixed is None:
            space = self.facts.space
            full = {**space.default, **(task.configuration or {})}
            distributions = space.distributions() if space.holds(full) else {}
        template = create_trial(
            state=TrialState.RUNNING,
            params={name: full[name] for name in distributions},
            distributions=distributions,
            user_attrs=self._signed(task),
            system_attrs={} if fixed is None else {"fixed_params": dict(fixed)},
        )
        # by the cache that Optuna puts in front of a database, which has to know of it
        cached, study_id = self.study._storage, self.study._study_id
        trial = optuna.Trial(self.study, cached.create_new_trial(study_id, template))
        self._mine.add(trial.number)
        return trial

    def _is_ours(self, trial: optuna.Trial) -> bool:
        """Tell whether a trial that was just added is to be run; if not, withdraw it."""
        self._mine.add(trial.number)
        if not self.workers.is_shared:
            return True
        records = self.records()
        why = objection(
            next(record for record in records if record.number == trial.number),
            records,
            default={} if self._facts is None else self._facts.space.default,
            most_trials=self.budget.most_trials,
        )
        if why is not None:
            self._withdraw(trial.number, why)
        return why is None

    def run_pair(
        self,
        configuration: Configuration,
        *,
        starts_first: bool,
        against: Configuration | None = None,
        is_wanted: Callable[[Sequence[TrialRecord]], bool] | None = None,
    ) -> TrialRecord | None:
        """Let a configuration meet another one, the defaults if not said, in fresh processes.

        Args:
            configuration: one side.
            starts_first: it is the reference of the duel.
            against: the other side.
            is_wanted: tells, of the trials before this pair, whether it is wanted; others may have
                begun theirs in the same moment. None: it is.

        Returns:
            the configuration's record, whose gain is None if either of them failed; its state is
            FAIL if it was the other. None if the pair is not wanted.
        """
        pair = secrets.randbits(_PAIR_BITS)  # no other worker draws the same
        other: Configuration = against or {}
        order = [configuration, other] if starts_first else [other, configuration]
        ours, theirs = (0, 1) if starts_first else (1, 0)
        with self.turn(), contextlib.ExitStack() as stack:
            trials: list[optuna.Trial] = []
            for side in order:
                task = Task(role=Role.FINAL, configuration=side, pair=pair)
                trial = self._add(task)
                stack.enter_context(self._failing_if_interrupted(trial))
                if not trials and not self._is_pair_wanted(trial, is_wanted):
                    return None
                self.listener.trial_started(trial.number, task.role, side)
                trials.append(trial)
            folders = (self._trial_folder(trials[0]), self._trial_folder(trials[1]))
            first, second, comparison = self.arena.meet(
                order, folders, self._plan.final_measure_s, self.facts.metric
            )
            self.keep_method()
            if comparison is not None and starts_first:
                comparison = _flipped(comparison)
            sides = (first, second)
            self._tell_side(trials[ours], sides[ours], comparison, limited=True)
            itself = comparison and dataclasses.replace(comparison, gain=1.0, low=None, high=None)
            self._tell_side(trials[theirs], sides[theirs], itself, limited=False)
        return self._record(trials[ours].number)

    def _is_pair_wanted(
        self,
        first: optuna.Trial,
        is_wanted: Callable[[Sequence[TrialRecord]], bool] | None,
    ) -> bool:
        """Tell whether a pair whose first side was just added is to be run; if not, withdraw it."""
        if not self.workers.is_shared or is_wanted is None:
            return True
        wanted = is_wanted(before(first.number, self.records()))
        if not wanted:
            self._withdraw(first.number, TAKEN)
        return wanted

    def _tell_side(
        self,
        trial: optuna.Trial,
        outcome: Outcome | None,
        comparison: Comparison | None,
        *,
        limited: bool,
    ) -> None:
        failed = outcome is not None and outcome.status is not Status.MEASURED
        if outcome is None or (comparison is None and not failed):
            self._fail(trial.number, "the other side of the pair failed")
            return
        outcome, measurement = self._measured(outcome, comparison, limited=limited)
        self._tell(trial, outcome, measurement)

    def run_for_values(self, configuration: Configuration, folder: Path, seed: int) -> Outcome:
        """Run the script just until its first steps have computed something; no trial of Optuna's.

        Seeds are fixed, so that two runs can be held against each other.
        """
        request = dataclasses.replace(
            self._request(configuration, self._plan.measure_s),
            source=StepSource.AUTO,
            phase=None,
            numerics=RecordValues(seed=seed),
        )
        return self._setting.runner.run(request, folder)

    @contextmanager
    def _failing_if_interrupted(self, trial: optuna.Trial) -> Iterator[None]:
        try:
            yield
        except UpdateFinishedTrialError:
            said = "other workers have not heard of this one for a minute, and have given it up"
            self.remark(f"trial {trial.number} is lost: {said}")
        except StorageInternalError:
            raise  # what can't be written now is swept by the next run
        except BaseException as error:
            if not self.frozen(trial.number).state.is_finished():
                self._fail(trial.number, f"interrupted ({type(error).__name__})")
            raise
        finally:
            self._mine.discard(trial.number)

    def _request(self, configuration: Configuration, measure_s: float) -> TrialRequest:
        spec, facts = self.spec, self._facts
        return TrialRequest(
            script=script_of(spec),
            arguments=arguments_of(spec),
            python=self._setting.python,
            working_directory=Path.cwd(),
            configuration=configuration,
            environment=spec.environment,
            source=spec.measure if facts is None else StepSource(facts.source),
            # the same step in every trial, even where another would be found first
            phase=spec.phase if facts is None else _pinned_phase(facts),
            timing=dataclasses.replace(spec.timing, measure_s=measure_s),
        )

    def _trial_folder(self, trial: optuna.Trial) -> Path:
        return self._setting.folder / "trials" / f"{trial.number:04d}"

    def _run(self, trial: optuna.Trial, role: Role, configuration: Configuration) -> None:
        self.listener.trial_started(trial.number, role, configuration)
        records = self.records()
        watch = Watch(
            metric=self.facts.metric,
            # what is raced or a control has to be known well, however slow it is
            incumbent=_incumbent(records) if role is Role.SEARCH else None,
            between=self.between,
        )
        outcome, comparison = self.arena.against_defaults(
            configuration,
            self._trial_folder(trial),
            self._plan.measure_s,
            watch,
            latest_control(records, self.workers.machine),
            # who wins is settled by processes that were started
            warm_start=None if role is Role.RACE else self.warm.warm_start,
        )
        self.keep_method()
        self._keep_warm()
        limited = role is not Role.CONTROL
        outcome, measurement = self._measured(outcome, comparison, limited=limited)
        measurement = dataclasses.replace(measurement, abandoned=watch.abandoned)
        self._tell(trial, outcome, measurement)

    def _measured(
        self, outcome: Outcome, comparison: Comparison | None, *, limited: bool
    ) -> tuple[Outcome, Measurement]:
        """Return what a trial comes to; an outcome that does not count says so."""
        if outcome.status is not Status.MEASURED:
            check_disk(outcome.folder)
            return outcome, Measurement()
        throughput = summarize(outcome, count_samples=self.facts.unit is Unit.SAMPLES)
        reason = unit_problem(throughput, self.facts.unit)
        if reason is None and comparison is None:
            reason = "it could not be compared with the defaults: too few steps"
        if reason is not None:
            return dataclasses.replace(
                outcome, status=Status.NO_STEPS, reason=reason
            ), Measurement()
        measurement = Measurement(
            throughput=throughput, score=self.facts.metric.score(outcome), comparison=comparison
        )
        reason = limit_problem(outcome, self.spec) if limited else None
        if reason is not None:
            outcome = dataclasses.replace(outcome, status=Status.OVER_LIMIT, reason=reason)
        return outcome, measurement

    def _tell(self, trial: optuna.Trial, outcome: Outcome, measurement: Measurement) -> None:
        self._write_outcome(trial, outcome, measurement)
        self._keep_files(trial, outcome)
        gain = measurement.gain
        if outcome.status is Status.MEASURED and gain is not None:
            self.study.tell(trial, corrected(self.facts.base, gain, self.facts.objective))
        else:
            # not FAIL: samplers learn nothing from that, and would come back to where it crashes
            self.study.tell(trial, state=TrialState.PRUNED)
        make_durable(self._setting.storage)
        record = self._record(trial.number)
        self.listener.trial_ended(record)
        self.listener.progress(self.budget.part_done())

    def _write_outcome(
        self, trial: optuna.Trial, outcome: Outcome, measurement: Measurement
    ) -> None:
        """Keep how a trial ended, before Optuna is told its value."""
        reference_s = self.arena.take_starting_s()
        attributes = outcome_attributes(outcome, measurement, reference_s)
        write_attributes(self._setting.storage, trial, attributes)
        if measurement.throughput is not None:
            rates = window_rates(outcome, measurement.throughput.unit)
            write_values(self._setting.storage, trial, rates)

    def _keep_files(self, trial: optuna.Trial, outcome: Outcome) -> None:
        store = self._setting.artifacts
        if store is None:
            return
        try:
            keep_trial_files(store, trial, outcome)
        except OSError as error:  # what was measured is worth more than its log
            self.remark(f"the files of trial {trial.number} can't be kept: {error}")

    def _run_default(self) -> None:
        """Run the defaults; what they show (step, unit, libraries) shapes the study."""
        setting = self._setting
        machine, build = setting.machine, setting.build
        everything = default_configuration(tuple(KNOBS), machine=machine, build=build)
        with self.turn():
            trial = self._add(Task(role=Role.DEFAULT, configuration={}), everything)
            with self._failing_if_interrupted(trial):
                if self._is_ours(trial):
                    self._measure_default(trial)

    def _measure_default(self, trial: optuna.Trial) -> None:
        setting = self._setting
        self.listener.trial_started(trial.number, Role.DEFAULT, {})
        # twice as long as others: its course tells what kind of script it is
        request = self._request({}, 2 * self._plan.measure_s)
        outcome = setting.runner.run(
            request, self._trial_folder(trial), setting.listener.phase_entered
        )
        throughput = score = None
        if outcome.status is Status.MEASURED:
            throughput = summarize(outcome, count_samples=knows_samples(outcome))
        if throughput is not None:
            score = score_outcome(outcome, throughput, self.spec.objective)
        if throughput is None or score is None:
            check_disk(outcome.folder)
            self._write_outcome(trial, outcome, Measurement())
            self._keep_files(trial, outcome)
            self.study.tell(trial, state=TrialState.FAIL)
            setting.listener.trial_ended(self._record(trial.number))
            raise _script_failed(outcome)
        self._facts = self._facts_from(outcome, throughput, score)
        if self._facts.space.holds(self._facts.space.default):
            suggest(trial, self._facts.space)
        write_study_facts(self.study, self._facts)
        itself = Comparison(gain=1.0, low=None, high=None, rounds=0, reference=score)
        measurement = Measurement(throughput=throughput, score=score, comparison=itself)
        self._tell(trial, outcome, measurement)
        reason = limit_problem(outcome, self.spec)
        if reason is not None:
            self.remark(f"TensorFlow's defaults are over the limit themselves: {reason}")

    def _facts_from(self, outcome: Outcome, throughput: Throughput, score: float) -> StudyFacts:
        setting, spec = self._setting, self._setting.spec
        build = dataclasses.replace(
            setting.build,
            openmp=next(iter(self._evidence.libraries.get("openmp", ())), None)
            or outcome.facts.get("openmp"),
            keras=outcome.facts.get("keras") or setting.build.keras,
        )
        liveness = find_liveness(KNOBS, self._evidence, setting.machine)
        names = select_knobs(spec.knobs, {one.knob: one for one in liveness})
        # a fleet's study is of whoever has begun it, whoever of its workers runs the defaults
        origin = read_origin(self.study)
        return StudyFacts(
            identity=origin.identity if origin else identify(spec, setting.machine, setting.build),
            machine=origin.machine if origin else setting.machine,
            build=build,
            space=setting.space or make_space(names, machine=setting.machine, build=build),
            unit=throughput.unit,
            source=outcome.source or StepSource.AUTO.value,
            phase=outcome.step_phase or "",
            folder=setting.folder,
            seed=spec.seed,
            objective=spec.objective,
            base=score,
            imported=tuple(outcome.facts.get("imported", ())),
            evidence=self._evidence,
            liveness=liveness,
            notices=(*outcome.notices, *shape_notices(outcome)),
        )


def _incumbent(records: Sequence[TrialRecord]) -> float | None:
    gains = [r.gain for r in records if r.gain is not None and r.role in SEARCH_ROLES]
    return max(gains, default=None)


def latest_control(records: Sequence[TrialRecord], machine: str) -> TrialRecord:
    """Return the latest trial of the defaults on a machine, or of all where it has none."""
    roles = (Role.DEFAULT, Role.CONTROL)
    known = [r for r in records if r.role in roles and r.score is not None]
    here = [r for r in known if r.machine == machine]
    return (here or known)[-1]


def _pinned_phase(facts: StudyFacts) -> str | None:
    return facts.phase if facts.source in ("keras", "dataset", "function") else None


def _flipped(comparison: Comparison | None) -> Comparison | None:
    """Return the first side's comparison, given the second's."""
    if comparison is None:
        return None
    low, high = comparison.high, comparison.low
    return dataclasses.replace(
        comparison,
        gain=1 / comparison.gain,
        low=None if low is None else 1 / low,
        high=None if high is None else 1 / high,
    )


def _script_failed(outcome: Outcome) -> ScriptFailedError:
    """Return the error for a default that does not run: nothing can be compared with it."""
    lines = "".join(f"\n    {line}" for line in outcome.last_lines)
    rejected = outcome.status is Status.REJECTED
    hint = None if rejected else f"its output is in {outcome.log}; repeat it: sh {outcome.repro}"
    if outcome.status is Status.TIMED_OUT:
        option = {Phase.START: "start", Phase.WARMUP: "warmup"}.get(outcome.phase, "measure")
        hint = f"--{option}-timeout gives it longer; its output is in {outcome.log}"
    problem = "the script does not run with TensorFlow's defaults"
    if outcome.status in (Status.NO_STEPS, Status.MEASURED):
        problem, lines = "there is nothing to measure", ""
        hint = "see --phase and --measure in autotune run --help, or mark steps by autotuner.step()"
    return ScriptFailedError(
        f"{problem}: {outcome.reason or 'no step took any time'}" + ("" if rejected else lines),
        log=outcome.log,
        hint=hint,
    )
