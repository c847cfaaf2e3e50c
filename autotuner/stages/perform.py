"""Running a task: the trial is added and measured, and its result is stored."""

import contextlib
import dataclasses
import secrets
from collections.abc import Callable, Sequence

from autotuner.stages.known import Known
from autotuner.stages.session import Session
from autotuner.statistics.comparison import Comparison, corrected
from autotuner.study.assess import EarlyStop, assess
from autotuner.study.budget import SEARCH_ROLES
from autotuner.study.events import ProgressMade, TrialEnded, TrialStarted
from autotuner.study.lab import Measured, flipped
from autotuner.study.memory import NOISE
from autotuner.study.noise import Design
from autotuner.study.record import (
    Measurement,
    Role,
    Side,
    Task,
    TrialRecord,
    result_of,
)
from autotuner.study.study_facts import StudyFacts
from autotuner.study.trials import TrialLostError, before
from autotuner.trial.folder import check_disk
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import WarmStart

_PAIR_BITS = 48
Wants = Callable[[Task, Known, TrialRecord], bool]


def perform(session: Session, task: Task, wants: Wants) -> None:
    """Run a task, within a turn.

    The task is withdrawn if a quicker worker has made it unnecessary, and given up if other workers
    have taken this one for dead.

    Args:
        session: of this process.
        task: what to measure.
        wants: returns whether the task is still wanted after the trials added before it.
    """
    try:
        if task.role is Role.FINAL:
            _perform_pair(session, task, wants)
        else:
            _perform_one(session, task, wants)
    except TrialLostError as error:
        session.remark(str(error))


def _perform_one(session: Session, task: Task, wants: Wants) -> None:
    trials, space = session.trials, session.facts.space
    side = Side(
        role=task.role,
        configuration=task.configuration,
        machine=session.workers.machine,
        race_round=task.race_round,
        expected=task.expected,
    )
    if task.configuration is not None:
        number = trials.add(side, space)
    else:
        number = trials.add(side, None, fixed={})
    with trials.running(number):
        if not _is_wanted(session, task, number, wants):
            return
        if side.configuration is None:
            side = trials.suggest(number, side, space)
            task = dataclasses.replace(task, configuration=side.configuration)
            if not _is_wanted(session, task, number, wants):
                return
        # race and final compare started processes, never forked ones
        warm_start = None if task.role is Role.RACE else session.warm.warm_start
        measured = _measure(session, number, side, session.design, warm_start)
        session.keep_design(session.design, measured.design)


def perform_control(
    session: Session, design: Design, warm_start: WarmStart | None
) -> tuple[TrialRecord, Design]:
    """Run the defaults once more; return the trial, and the design that measured it.

    The caller keeps the design.

    Args:
        session: of this process.
        design: how to compare it with the reference.
        warm_start: how its process starts.
    """
    side = Side(role=Role.CONTROL, configuration={}, machine=session.workers.machine)
    number = session.trials.add(side, session.facts.space)
    with session.trials.running(number):
        measured = _measure(session, number, side, design, warm_start)
    return session.trials.record(number), measured.design


def _is_wanted(session: Session, task: Task, number: int, wants: Wants) -> bool:
    """Return whether a trial that was just added is still wanted; if not, withdraw it."""
    if not session.workers.is_shared:
        return True
    known = session.known()
    mine = next(record for record in known.records if record.number == number)
    earlier = dataclasses.replace(known, records=before(number, known.records))
    wanted = wants(task, earlier, mine)
    if not wanted:
        session.trials.withdraw(number)
    return wanted


def _measure(
    session: Session,
    number: int,
    side: Side,
    design: Design,
    warm_start: WarmStart | None,
) -> Measured:
    """Measure a trial against the defaults, and store its result."""
    configuration = side.configuration or {}
    session.on_event(TrialStarted(number=number, role=side.role, configuration=configuration))
    facts, records, target = session.facts, session.trials.records(), session.target
    measure_s, noise = target.spec.plan.measure_s, session.memory.read(NOISE)
    stop = EarlyStop(
        metric=facts.metric,
        # a control or an entrant of the race is measured fully, however slow it is
        incumbent=incumbent(records) if side.role is Role.SEARCH else None,
        between=0.0 if noise is None else noise.between,
    )
    request = target.request(configuration, measure_s, facts)
    measured = session.lab.compare(
        dataclasses.replace(request, warm_start=warm_start),
        target.request({}, measure_s, facts),
        target.trial_folder(number),
        design,
        stop,
        latest_control(records, session.workers.machine),
    )
    session.keep_cold(measured.outcome.cold_reason)
    outcome, measurement = assess(
        measured.outcome,
        measured.comparison,
        facts,
        None if side.role is Role.CONTROL else target.spec,
        abandoned=measured.abandoned,
    )
    keep(session, facts, number, outcome, measurement, measured.reference_start_s)
    return measured


def keep(
    session: Session,
    facts: StudyFacts,
    number: int,
    outcome: Outcome,
    measurement: Measurement,
    reference_start_s: float = 0.0,
) -> None:
    """Store how a trial ended, and report it.

    Raises:
        UserError: if the disk is full: the configuration is not to blame for the failure.
    """
    if outcome.status is not Status.MEASURED:
        check_disk(outcome.folder)
    problem = session.trials.keep_files(number, outcome)
    if problem is not None:
        session.remark(problem)
    gain, value = measurement.gain, None
    if outcome.status is Status.MEASURED and gain is not None:
        value = corrected(facts.base, gain, facts.objective)
    result = result_of(outcome, measurement, reference_start_s)
    record = session.trials.tell(number, outcome, result, value)
    session.on_event(TrialEnded(record))
    session.on_event(ProgressMade(session.budget().part_done))


def _perform_pair(session: Session, task: Task, wants: Wants) -> None:
    """Measure two configurations in fresh processes: two trials that share a pair number."""
    assert task.configuration is not None
    facts, target, trials = session.facts, session.target, session.trials
    pair = secrets.randbits(_PAIR_BITS)  # no other worker draws the same
    order = [task.configuration, task.against]
    ours, theirs = (0, 1) if task.starts_first else (1, 0)
    if not task.starts_first:
        order.reverse()
    with contextlib.ExitStack() as stack:
        numbers: list[int] = []
        for configuration in order:
            side = Side(
                role=Role.FINAL,
                configuration=configuration,
                machine=session.workers.machine,
                pair=pair,
                starts_first=task.starts_first,
            )
            number = trials.add(side, facts.space)
            stack.enter_context(trials.running(number))
            if not numbers and not _is_wanted(session, task, number, wants):
                return
            started = TrialStarted(number=number, role=Role.FINAL, configuration=configuration)
            session.on_event(started)
            numbers.append(number)
        measure_s = target.spec.plan.final_measure_s
        requests = [target.request(one, measure_s, facts) for one in order]
        folders = [target.trial_folder(number) for number in numbers]
        measured = session.lab.pair(
            (requests[0], requests[1]), (folders[0], folders[1]), session.design, facts.metric
        )
        session.keep_design(session.design, measured.design)
        comparison = measured.comparison
        if task.starts_first:
            comparison = flipped(comparison)
        itself = comparison and dataclasses.replace(comparison, gain=1.0, low=None, high=None)
        sides = (measured.first, measured.second)
        _keep_side(session, numbers[ours], sides[ours], comparison, limited=True)
        _keep_side(session, numbers[theirs], sides[theirs], itself, limited=False)


def _keep_side(
    session: Session,
    number: int,
    outcome: Outcome | None,
    comparison: Comparison | None,
    *,
    limited: bool,
) -> None:
    failed = outcome is not None and outcome.status is not Status.MEASURED
    if outcome is None or (comparison is None and not failed):
        session.trials.fail(number, "the other side of the pair failed")
        return
    limits = session.target.spec if limited else None
    outcome, measurement = assess(outcome, comparison, session.facts, limits)
    keep(session, session.facts, number, outcome, measurement)


def incumbent(records: Sequence[TrialRecord]) -> float | None:
    """Return the best gain of the search so far; None if there is none."""
    gains = [r.gain for r in records if r.gain is not None and r.role in SEARCH_ROLES]
    return max(gains, default=None)


def latest_control(records: Sequence[TrialRecord], machine: str) -> TrialRecord:
    """Return the latest trial of the defaults on a machine; without one, on any machine."""
    roles = (Role.DEFAULT, Role.CONTROL)
    known = [r for r in records if r.role in roles and r.score is not None]
    here = [r for r in known if r.machine == machine]
    return (here or known)[-1]
