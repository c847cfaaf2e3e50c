"""What is measured before the search: defaults, noise, warm start, bottleneck."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import psutil

from autotuner.errors import ScriptFailedError
from autotuner.knobs.catalogue import KNOBS, default_configuration
from autotuner.knobs.liveness import Evidence, EvidenceScope, find_liveness
from autotuner.knobs.selection import select_knobs
from autotuner.machine.conditions import Cause, find_causes, read_counters
from autotuner.options.study_spec import Objective, StepSource, Warm
from autotuner.stages.once import Once
from autotuner.stages.perform import keep, latest_control, perform_control
from autotuner.stages.session import Session
from autotuner.statistics.comparison import Comparison, Metric
from autotuner.statistics.shape import shape_notices
from autotuner.statistics.throughput import (
    Throughput,
    Unit,
    knows_samples,
    score_outcome,
    summarize,
)
from autotuner.study.assess import EarlyStop, limit_problem
from autotuner.study.diagnosis import Diagnosis, diagnose
from autotuner.study.events import TrialEnded, TrialStarted
from autotuner.study.folders import from_here
from autotuner.study.identity import identify
from autotuner.study.lab import choose_design
from autotuner.study.memory import DIAGNOSIS, FACTS, NOISE, ORIGIN, WARM
from autotuner.study.noise import (
    Design,
    Method,
    Noise,
    inside_spread,
    spread_of_processes,
    spread_of_scores,
)
from autotuner.study.record import Measurement, Role, Side, TrialRecord, result_of
from autotuner.study.space import make_space
from autotuner.study.study_facts import StudyFacts
from autotuner.study.trials import before
from autotuner.study.warm_check import WarmCheck, judge_warm, start_timeout_s
from autotuner.trial.folder import check_disk
from autotuner.trial.outcome import Outcome, Phase, Status
from autotuner.trial.probe import inspect_script
from autotuner.trial.request import Feed

_LEAST_FOR_WARM = 6
RunControl = Callable[[Design], tuple[TrialRecord, Design]]


def find_facts(session: Session) -> StudyFacts | None:
    """Run the inspection and TensorFlow's defaults; return None if another worker runs them.

    Raises:
        ScriptFailedError: if the script does not run with TensorFlow's defaults.
    """
    known = session.memory.read(FACTS)
    # a worker may die before it reports the defaults' trial: the study's step and knobs stay
    evidence = known.evidence if known is not None else _inspect(session)
    target, trials = session.target, session.trials
    everything = default_configuration(tuple(KNOBS), machine=target.machine, build=target.build)
    side = Side(role=Role.DEFAULT, configuration={}, machine=session.workers.machine)
    number = trials.add(side, None, fixed=everything)
    with trials.running(number):
        if session.workers.is_shared and any(
            record.role is Role.DEFAULT for record in before(number, trials.records())
        ):
            trials.withdraw(number)
            return None
        return _measure_defaults(session, number, evidence)


def _inspect(session: Session) -> Evidence:
    """Run the script briefly to see which knobs can act on it."""
    nothing, target = Evidence(scope=EvidenceScope.NOTHING), session.target
    plan = target.spec.plan
    if (target.spec.trials or plan.trials) <= 1:
        return nothing  # there is no search
    outcome, evidence = inspect_script(
        target.request({}, plan.measure_s, None), target.folder / "inspection", session.runner
    )
    if outcome.status is Status.TIMED_OUT:
        raise script_failed(outcome)
    if outcome.status is Status.MEASURED:
        return evidence
    # if the defaults fail as well, their error is shown
    session.remark(f"which knobs can act is not known, as a short run failed: {outcome.reason}")
    return nothing


def _measure_defaults(session: Session, number: int, evidence: Evidence) -> StudyFacts:
    """Measure the defaults; their step, unit and libraries shape the study."""
    target = session.target
    session.on_event(TrialStarted(number=number, role=Role.DEFAULT, configuration={}))
    # twice as long as other trials: its course shows what kind of script it is
    request = target.request({}, 2 * target.spec.plan.measure_s, session.memory.read(FACTS))
    outcome = session.lab.run(request, target.trial_folder(number))
    throughput = score = None
    if outcome.status is Status.MEASURED:
        throughput = summarize(outcome, count_samples=knows_samples(outcome))
    if throughput is not None:
        score = score_outcome(outcome, throughput, target.spec.objective)
    if throughput is None or score is None:
        check_disk(outcome.folder)
        session.trials.keep_files(number, outcome)
        result = result_of(outcome, Measurement())
        record = session.trials.tell(number, outcome, result, None, is_kept=False)
        session.on_event(TrialEnded(record))
        raise script_failed(outcome)
    facts = _facts_from(session, outcome, throughput, score, evidence)
    session.trials.keep_defaults(number, facts.space)
    session.memory.write(FACTS, facts)
    itself = Comparison(gain=1.0, low=None, high=None, rounds=0, reference=score)
    measurement = Measurement(throughput=throughput, score=score, comparison=itself)
    keep(session, facts, number, outcome, measurement)
    reason = limit_problem(outcome, target.spec)
    if reason is not None:
        session.remark(f"TensorFlow's defaults are over the limit themselves: {reason}")
    return facts


def _facts_from(
    session: Session,
    outcome: Outcome,
    throughput: Throughput,
    score: float,
    evidence: Evidence,
) -> StudyFacts:
    target, spec = session.target, session.target.spec
    build = dataclasses.replace(
        target.build,
        openmp=next(iter(evidence.libraries.get("openmp", ())), None) or outcome.facts.openmp,
        keras=outcome.facts.keras or target.build.keras,
    )
    liveness = find_liveness(KNOBS, evidence, target.machine)
    names = select_knobs(spec.knobs, {one.knob: one for one in liveness})
    # the identity is that of the worker that began the study, even if another runs the defaults
    origin = session.memory.read(ORIGIN)
    return StudyFacts(
        identity=origin.identity if origin else identify(spec, target.machine, target.build),
        machine=origin.machine if origin else target.machine,
        build=build,
        space=target.space or make_space(names, machine=target.machine, build=build),
        unit=throughput.unit,
        source=outcome.source or StepSource.AUTO.value,
        phase=outcome.step_phase or "",
        folder=from_here(target.folder),
        seed=spec.seed,
        objective=spec.objective,
        base=score,
        imported=outcome.facts.imported,
        evidence=evidence,
        liveness=liveness,
        notices=(*outcome.notices, *shape_notices(outcome)),
    )


def find_noise(session: Session) -> Noise:
    """Run the defaults in further processes; return how much these differ, and why."""
    facts = session.facts
    default = latest_control(session.trials.records(), session.workers.machine)
    peak_bytes = (default.figures.peak_rss_mib or 0.0) * 2**20
    free_bytes = min(psutil.virtual_memory().available, facts.machine.memory_bytes)
    design = choose_design(
        session.target.spec.pairing,
        facts,
        step_s=(default.figures.step_ms_p50 or 0.0) / 1000,
        peak_bytes=peak_bytes,
        room_bytes=free_bytes - peak_bytes,
    )

    def run_control(design: Design) -> tuple[TrialRecord, Design]:
        return perform_control(session, design, None)

    counters = read_counters()
    count = session.target.spec.plan.processes - 1
    controls, found = run_controls(count, design, run_control)
    session.keep_design(design, found)
    busiest = max((r.others_cores for r in controls if r.others_cores is not None), default=None)
    causes = find_causes(facts.machine, counters, read_counters(), others_cores=busiest)
    return noise_of(default, controls, found, causes)


def run_controls(
    count: int, design: Design, run_control: RunControl
) -> tuple[list[TrialRecord], Design]:
    """Return ``count`` controls, and the design that works.

    A script that fails only when it is stopped and continued is measured without duels.
    """
    controls = []
    for _ in range(count):
        record, design = run_control(design)
        if record.gain is None and design.method is Method.DUEL:
            why = f"the defaults failed when they were stopped and continued: {record.reason}"
            design = dataclasses.replace(design, method=Method.SEQUENTIAL, why=why)
            record, design = run_control(design)
        controls.append(record)
    return controls, design


def noise_of(
    default: TrialRecord, controls: Sequence[TrialRecord], design: Design, causes: Sequence[Cause]
) -> Noise:
    """Return the noise: how much processes of the defaults differ.

    Args:
        default: the first trial of the defaults.
        controls: further ones.
        design: how they were compared.
        causes: why they may differ.
    """
    counted = [record for record in controls if record.gain is not None]
    gains = [record.gain for record in counted if record.gain is not None]
    inside = inside_spread((record.gain_low, record.gain_high) for record in counted)
    scores = [r.score for r in (default, *counted) if r.score is not None]
    others = sorted(r.others_cores for r in counted if r.others_cores is not None)
    return Noise(
        method=design.method,
        why=design.why,
        processes=1 + len(counted) + (design.method is Method.DUEL),
        between=spread_of_processes(gains, inside),
        raw=spread_of_scores(scores),
        inside=inside,
        slice_s=design.slice_s,
        others_cores=others[len(others) // 2] if others else 0.0,
        causes=tuple(causes),
    )


def find_warm(session: Session) -> WarmCheck:
    """Return whether a warm parent can fork trials of the search, and report it."""
    found = _try_warm(session)
    if found.why:
        session.remark(f"warm start {'on' if found.used else 'off'}: {found.why}")
    return found


def _try_warm(session: Session) -> WarmCheck:
    spec, noise = session.target.spec, session.memory.read(NOISE)
    assert noise is not None
    records, modules = session.trials.records(), session.facts.imported
    default = latest_control(records, session.workers.machine)
    if spec.warm is Warm.OFF or not modules:
        return WarmCheck(used=False, why="")
    timeout_s = start_timeout_s(default.figures.first_step_s or 0.0, spec.timing.start_timeout_s)
    usable = WarmCheck(used=True, why="", modules=modules, start_timeout_s=timeout_s)
    if spec.warm is Warm.ON:
        return dataclasses.replace(usable, why="as requested")
    if session.budget().trials_expected < _LEAST_FOR_WARM:
        return WarmCheck(used=False, why="")  # the check would cost more than it saves
    started = [r for r in records if r.role is Role.CONTROL and r.gain is not None]
    runs = []
    for _ in range(max(1, len(started))):
        record, design = perform_control(session, session.design, usable.warm_start)
        session.keep_design(session.design, design)
        runs.append(record)
    forked = [record for record in runs if record.gain is not None and record.forked]
    return judge_warm(
        [math.log(r.gain) for r in started if r.gain],
        [math.log(r.gain) for r in forked if r.gain],
        noise.between,
        [record.threads for record in (default, *forked)],
        usable,
    )


def find_bottleneck(session: Session) -> Diagnosis:
    """Return what a step of the defaults spends its time on."""
    evidence = session.facts.evidence
    fed = bool(evidence.at("iterate", "iterate by keras"))
    cached = _fed_with(session, Feed.CACHED) if fed else None
    single = None if cached is None else _fed_with(session, Feed.SINGLE)
    return diagnose(cached, single, evidence)


def _fed_with(session: Session, feed: Feed) -> Comparison | None:
    """Return how fast the defaults' steps are with replaced elements; None if that fails."""
    known, target = session.known(), session.target
    assert known.noise is not None
    steps = Metric(objective=Objective.THROUGHPUT, unit=Unit.STEPS)
    folder = target.folder / "diagnosis" / feed.value
    plain = target.request({}, target.spec.plan.measure_s, known.facts)
    warm_start, design = session.warm.warm_start, known.noise.design
    comparison = None
    if design.method is Method.DUEL:
        measured = session.lab.compare(
            dataclasses.replace(plain, feed=feed, warm_start=warm_start),
            plain,
            folder,
            design,
            EarlyStop(metric=steps, between=known.between),
            latest_control(known.records, known.worker.machine),
        )
        session.keep_design(design, measured.design)
        outcome, design = measured.outcome, measured.design
        comparison = measured.comparison
    if comparison is None or design.method is not Method.DUEL:
        # in steps: the study's own score has another unit, and may not be a rate
        outcome, real = (
            session.lab.run(dataclasses.replace(plain, feed=one), folder / f"alone-{one}")
            for one in (feed, Feed.REAL)
        )
        comparison = steps.compare_scores(steps.score(outcome), steps.score(real))
    done = any(notice.kind == f"fed_{feed.value}" for notice in outcome.notices)
    return comparison if done and outcome.status is Status.MEASURED else None


def _was_measured(facts: StudyFacts, records: Sequence[TrialRecord]) -> bool:
    return any(r.role is Role.DEFAULT and r.gain is not None for r in records)


DEFAULTS = Once(
    key=FACTS, find_out=find_facts, roles=frozenset({Role.DEFAULT}), holds=_was_measured
)
NOISE_CHECK = Once(key=NOISE, find_out=find_noise)
WARM_START = Once(key=WARM, find_out=find_warm)
BOTTLENECK = Once(key=DIAGNOSIS, find_out=find_bottleneck)


def script_failed(outcome: Outcome) -> ScriptFailedError:
    """Return the error for defaults that do not run, so that nothing can be compared."""
    rejected = outcome.status is Status.REJECTED
    lines = () if rejected else outcome.last_lines
    hint = None if rejected else f"its output is in {outcome.log}; repeat it: sh {outcome.repro}"
    if outcome.status is Status.TIMED_OUT:
        option = {Phase.START: "start", Phase.WARMUP: "warmup"}.get(outcome.phase, "measure")
        hint = f"--{option}-timeout gives it longer; its output is in {outcome.log}"
    problem = "the script does not run with TensorFlow's defaults"
    if outcome.status in (Status.NO_STEPS, Status.MEASURED):
        problem, lines = "there is nothing to measure", ()
        hint = "see --phase and --measure in autotune run --help, or mark steps by autotuner.step()"
    return ScriptFailedError(
        f"{problem}: {outcome.reason or 'no step took any time'}",
        log=outcome.log,
        lines=lines,
        hint=hint,
    )
