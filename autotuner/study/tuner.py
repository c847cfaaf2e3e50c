"""The loop of a study: which trial comes next, run it, tell Optuna how it ended.

The tuner knows a :class:`autotuner.trial.runner.Runner`, not processes, and reports to a
:class:`Listener`, not to a screen.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from autotuner.errors import ScriptFailedError
from autotuner.knobs.catalogue import KNOBS, default_configuration, select_knobs
from autotuner.knobs.knob import Build, Configuration, KnobValue
from autotuner.machine import Machine
from autotuner.spec.study_spec import DEFAULT_TRIALS, SamplerName, StepSource, StudySpec
from autotuner.statistics import Throughput, Unit, knows_samples, summarize
from autotuner.study.identity import identify, is_alive, owner
from autotuner.study.record import (
    Role,
    StudyFacts,
    TrialRecord,
    configuration_key,
    read_record,
    read_records,
    read_study_facts,
    write_outcome,
    write_start,
    write_study_facts,
)
from autotuner.study.samplers import make_sampler, walk_grid
from autotuner.study.space import make_space, suggest
from autotuner.trial.outcome import Notice, Outcome, Phase, Status
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import Runner

_SEARCH_ROLES = (Role.DEFAULT, Role.RECIPE, Role.SCRIPT, Role.SEARCH)
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_FINAL_TRIALS = 6


class Listener(Protocol):
    """Whoever wants to know how a study gets on."""

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        """Hear that a trial is about to run."""

    def phase_entered(self, phase: Phase) -> None:
        """Hear what the current trial is doing."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Hear how a trial ended."""

    def facts_known(self, facts: StudyFacts) -> None:
        """Hear what the default's trial has shown: the step, the knobs, notices."""

    def progress(self, done: float) -> None:
        """Hear which part of search and final is done, from 0 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything a tuner works with."""

    study: optuna.Study
    storage: BaseStorage
    spec: StudySpec
    machine: Machine
    build: Build
    python: Path
    folder: Path
    runner: Runner
    listener: Listener
    monotonic: Callable[[], float] = time.monotonic


class Tuner:
    """Runs the trials of one study."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._study = setting.study
        self._started = setting.monotonic()
        self._facts = read_study_facts(setting.study)

    @property
    def facts(self) -> StudyFacts:
        """What holds for all trials; known once the default has run."""
        if self._facts is None:
            raise RuntimeError("the default has not run yet")
        return self._facts

    def records(self) -> list[TrialRecord]:
        """Return all trials so far."""
        return read_records(self._study.get_trials(deepcopy=False))

    def sweep(self) -> int:
        """Fail trials that a dead process has left running; return how many there were."""
        swept = 0
        unfinished = (TrialState.RUNNING, TrialState.WAITING)
        for trial in self._study.get_trials(deepcopy=False, states=unfinished):
            if not is_alive(trial.user_attrs.get("owner", "")):
                self._fail(trial.number, "its autotune process died")
                swept += trial.state is TrialState.RUNNING
        return swept

    def _fail(self, number: int, reason: str) -> None:
        storage = self._setting.storage
        study_id = storage.get_study_id_from_name(self._study.study_name)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
        storage.set_trial_user_attr(trial_id, "reason", reason)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _record(self, number: int) -> TrialRecord:
        record = read_record(self._frozen(number))
        if record is None:
            raise RuntimeError(f"trial {number} lost its role")
        return record

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def run_first_trials(self) -> None:
        """Run TensorFlow's defaults, the recipe, and what the script sets itself, where missing.

        Raises:
            ScriptFailedError: if the script does not run with TensorFlow's defaults.
        """
        if self._facts is None:
            self._run_default()
        elif not any(r.role is Role.DEFAULT and r.value is not None for r in self.records()):
            self.run_trial(Role.DEFAULT, {})  # killed between the default's run and its telling
        self._setting.listener.facts_known(self.facts)
        space = self.facts.space
        tried = {configuration_key(space.default)}
        first = [(Role.RECIPE, space.recipe)]
        if own := own_configuration(self.facts):
            first.append((Role.SCRIPT, own))
        done = {record.role for record in self.records() if record.state.is_finished()}
        for role, configuration in first:
            key = configuration_key(configuration)
            wanted = key not in tried and role not in done
            if wanted and self._trials_left() > 0 and self._has_time():
                self.run_trial(role, configuration)
            tried.add(key)

    def search(self) -> None:
        """Run the sampler's trials until the number of trials or the time is used up.

        A space with no more points than trials is walked through instead: a sampler would repeat
        some and miss others.
        """
        self._study.sampler = make_sampler(
            self._setting.spec.sampler,
            seed=self.facts.seed,
            trials_so_far=len(self._study.get_trials(deepcopy=False)),
        )
        limit = self._setting.spec.trials or DEFAULT_TRIALS
        enumerates = (
            self._setting.spec.sampler is SamplerName.GRID or self.facts.space.size <= limit
        )
        grid = walk_grid(self.facts.space, seed=self.facts.seed)
        while self._trials_left() > 0 and self._has_time():
            if enumerates:
                configuration = self._next_untried(grid)
                if configuration is None:
                    break
                self.run_trial(Role.SEARCH, configuration)
            else:
                self._run_proposed()

    def _run_proposed(self) -> None:
        trial = self._study.ask()
        with self._failing_if_interrupted(trial):
            configuration = suggest(trial, self.facts.space)
            self._run(trial, Role.SEARCH, configuration, pair=None)

    def _next_untried(self, grid: Iterator[Configuration]) -> Configuration | None:
        default = self.facts.space.default
        tried = {record.key(default) for record in self.records() if record.state in _ENDED}
        return next((point for point in grid if configuration_key(point) not in tried), None)

    def run_trial(
        self, role: Role, configuration: Configuration, *, pair: int | None = None
    ) -> TrialRecord:
        """Run one trial with a given configuration; the empty one is TensorFlow's defaults."""
        full = {**self.facts.space.default, **configuration}
        learn = self.facts.space.holds(full)
        if learn:
            self._study.enqueue_trial(full)
        trial = self._study.ask()
        with self._failing_if_interrupted(trial):
            if learn:
                suggest(trial, self.facts.space)
            return self._run(trial, role, configuration, pair=pair)

    def _trials_left(self) -> int:
        used = sum(r.role in _SEARCH_ROLES and r.state in _ENDED for r in self.records())
        spec = self._setting.spec
        limit = spec.trials
        if limit is None:
            limit = DEFAULT_TRIALS if spec.budget_s is None else used + 1
        return limit - used

    def _elapsed_s(self) -> float:
        return self._setting.monotonic() - self._started

    def _has_time(self) -> bool:
        """Tell whether one more trial fits, with the final pairs after it."""
        budget_s = self._setting.spec.budget_s
        if budget_s is None:
            return True
        return self._elapsed_s() + (1 + _FINAL_TRIALS) * self._mean_trial_s() <= budget_s

    def _mean_trial_s(self) -> float:
        lengths = [record.elapsed_s for record in self.records() if record.elapsed_s]
        return sum(lengths) / len(lengths) if lengths else 0.0

    def part_done(self) -> float:
        """Return which part of search and final is done, by trials or time, the further one."""
        spec = self._setting.spec
        parts = [0.0]
        if spec.budget_s is not None:
            parts.append(self._elapsed_s() / spec.budget_s)
        if spec.budget_s is None or spec.trials is not None:
            ended = sum(record.state in _ENDED for record in self.records())
            parts.append(ended / ((spec.trials or DEFAULT_TRIALS) + _FINAL_TRIALS))
        return min(1.0, max(parts))

    @contextmanager
    def _failing_if_interrupted(self, trial: optuna.Trial) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not self._frozen(trial.number).state.is_finished():
                self._fail(trial.number, f"interrupted ({type(error).__name__})")
            raise

    def _request(self, configuration: Configuration) -> TrialRequest:
        spec, facts = self._setting.spec, self._facts
        return TrialRequest(
            script=spec.model,
            arguments=spec.arguments,
            python=self._setting.python,
            working_directory=Path.cwd(),
            configuration=configuration,
            environment=spec.environment,
            source=spec.measure if facts is None else StepSource(facts.source),
            # the same step in every trial, even where another would be found first
            phase=spec.phase if facts is None else _pinned_phase(facts),
            timing=spec.timing,
        )

    def _execute(
        self, trial: optuna.Trial, role: Role, configuration: Configuration, pair: int | None
    ) -> Outcome:
        write_start(trial, role=role, configuration=configuration, owner=owner(), pair=pair)
        listener = self._setting.listener
        listener.trial_started(trial.number, role, configuration)
        folder = self._setting.folder / "trials" / f"{trial.number:04d}"
        return self._setting.runner.run(
            self._request(configuration), folder, listener.phase_entered
        )

    def _run(
        self, trial: optuna.Trial, role: Role, configuration: Configuration, *, pair: int | None
    ) -> TrialRecord:
        outcome = self._execute(trial, role, configuration, pair)
        throughput = None
        if outcome.status is Status.MEASURED:
            throughput = summarize(outcome, count_samples=self.facts.unit is Unit.SAMPLES)
            outcome = _checked_unit(outcome, throughput, self.facts.unit)
        return self._tell(trial, outcome, throughput)

    def _tell(
        self, trial: optuna.Trial, outcome: Outcome, throughput: Throughput | None
    ) -> TrialRecord:
        write_outcome(trial, outcome, throughput)
        if outcome.status is Status.MEASURED and throughput is not None:
            self._study.tell(trial, throughput.value)
        elif self._setting.spec.sampler is SamplerName.GP and (penalty := self._penalty()):
            self._study.tell(trial, penalty)  # GPSampler learns only from COMPLETE
        else:
            # not FAIL: samplers learn nothing from that, and would come back to where it crashes
            self._study.tell(trial, state=TrialState.PRUNED)
        record = self._record(trial.number)
        self._setting.listener.trial_ended(record)
        self._setting.listener.progress(self.part_done())
        return record

    def _penalty(self) -> float:
        """Return half of the slowest throughput so far; 0 if there is none."""
        return min((r.value for r in self.records() if r.value is not None), default=0.0) / 2

    def _run_default(self) -> None:
        """Run the defaults; what they show (step, unit, libraries) shapes the study."""
        setting = self._setting
        everything = default_configuration(
            tuple(KNOBS), machine=setting.machine, build=setting.build
        )
        self._study.enqueue_trial(dict(everything))
        trial = self._study.ask()
        with self._failing_if_interrupted(trial):
            outcome = self._execute(trial, Role.DEFAULT, {}, None)
            throughput = None
            if outcome.status is Status.MEASURED:
                throughput = summarize(outcome, count_samples=knows_samples(outcome))
            if throughput is None:
                write_outcome(trial, outcome, None)
                self._study.tell(trial, state=TrialState.FAIL)
                setting.listener.trial_ended(self._record(trial.number))
                raise _script_failed(outcome)
            self._facts = self._facts_from(outcome, throughput)
            if self._facts.space.holds(self._facts.space.default):
                suggest(trial, self._facts.space)
            write_study_facts(self._study, self._facts)
            self._tell(trial, outcome, throughput)

    def _facts_from(self, outcome: Outcome, throughput: Throughput) -> StudyFacts:
        setting, spec = self._setting, self._setting.spec
        build = dataclasses.replace(
            setting.build,
            openmp=outcome.facts.get("openmp"),
            keras=outcome.facts.get("keras") or setting.build.keras,
        )
        uses_datasets = bool(outcome.facts.get("datasets_built"))
        names = select_knobs(spec.knobs, build=build, uses_datasets=uses_datasets)
        return StudyFacts(
            identity=identify(spec, setting.machine, setting.build),
            build=build,
            space=make_space(names, machine=setting.machine, build=build),
            unit=throughput.unit,
            source=outcome.source or StepSource.AUTO.value,
            phase=outcome.step_phase or "",
            folder=setting.folder,
            seed=spec.seed,
            notices=(*outcome.notices, *_shape_notices(outcome)),
        )


def _pinned_phase(facts: StudyFacts) -> str | None:
    return facts.phase if facts.source in ("keras", "dataset", "function") else None


def _shape_notices(outcome: Outcome) -> Iterator[Notice]:
    if not outcome.complete and outcome.source != StepSource.PROCESS.value:
        text = "the script ended before the measurement was complete"
        if not outcome.warm:
            text += ", and even before its speed was steady"
        text += (
            "; let it run longer for better numbers. Each trial runs it to its end, "
            "and so does whatever it writes there"
        )
        yield Notice(kind="short", where="", text=text)


def _checked_unit(outcome: Outcome, throughput: Throughput | None, unit: Unit) -> Outcome:
    if throughput is not None and throughput.unit is unit:
        return outcome
    found = "nothing" if throughput is None else throughput.unit.value
    reason = f"the script was measured in {found}, the study counts {unit.value}"
    return dataclasses.replace(outcome, status=Status.NO_STEPS, reason=reason)


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


def own_configuration(facts: StudyFacts) -> Configuration | None:
    """Return what the script itself sets by code or environment, if that is in the space."""
    own: dict[str, KnobValue] = {}
    by_variable = {knob.variable: name for name, knob in KNOBS.items()}
    for notice in facts.notices:
        name = by_variable.get(notice.knob or "", notice.knob)
        if notice.kind == "override" and name in facts.space.domains and notice.value:
            is_number = isinstance(facts.space.default[name], int) and notice.value.isdecimal()
            own[name] = int(notice.value) if is_number else notice.value
    full = {**facts.space.default, **own}
    return full if own and facts.space.holds(full) else None
