"""What comes before the search: defaults, noise check, warm start, diagnosis, the usual candidates.

Each step is taken once in a study; what it has found stands in the study for later sittings.
"""

import dataclasses
import math

from autotuner.machine.conditions import find_causes, read_counters
from autotuner.options.study_spec import Objective, Warm
from autotuner.statistics.comparison import Comparison, Metric
from autotuner.statistics.throughput import Unit
from autotuner.study.candidates import own_configuration
from autotuner.study.diagnosis import Diagnosis, diagnose
from autotuner.study.noise import (
    Method,
    Noise,
    inside_spread,
    spread_of_processes,
    spread_of_scores,
)
from autotuner.study.record import (
    Role,
    configuration_key,
    read_diagnosis,
    read_noise,
    read_study_facts,
    write_diagnosis,
)
from autotuner.study.tuner import Tuner, latest_control
from autotuner.study.warm_check import WarmCheck, judge_warm, read_warm_check, start_timeout_s
from autotuner.study.watch import Watch
from autotuner.trial.outcome import Status
from autotuner.trial.request import Feed

_LEAST_FOR_WARM = 6


def run_first_trials(tuner: Tuner) -> None:
    """Run TensorFlow's defaults, the noise check, the recipe, and what the script sets itself.

    Only what is missing. A small number of trials leaves the later ones out. Of several workers one
    does what is done once for all, and the others wait for it.

    Raises:
        ScriptFailedError: if the script does not run with TensorFlow's defaults.
    """
    heard = False
    while not is_prepared(tuner):
        if tuner.workers.is_leader() and not tuner.others_run(Role.DEFAULT):
            _prepare(tuner)
            heard = True
        else:
            tuner.wait()
    if not heard:
        _introduce(tuner)
    space = tuner.facts.space
    tried = {configuration_key(space.default)}
    first = [(Role.RECIPE, space.recipe)]
    if own := own_configuration(tuner.facts):
        first.append((Role.SCRIPT, own))
    for role, configuration in first:
        done = {record.role for record in tuner.records() if record.counts}
        key = configuration_key(configuration)
        wanted = key not in tried and role not in done
        if wanted and tuner.budget.trials_left() > 0 and tuner.budget.has_time():
            tuner.run_trial(role, configuration)
        tried.add(key)


def is_prepared(tuner: Tuner) -> bool:
    """Tell whether everything is known that is found out once for all."""
    study = tuner.study
    if read_study_facts(study) is None:
        return False
    if not any(r.role is Role.DEFAULT and r.gain is not None for r in tuner.records()):
        return False
    if tuner.budget.trials_left() <= 0:
        return True  # nothing will be searched
    if read_noise(study) is None or read_warm_check(study.user_attrs) is None:
        return False
    return not tuner.spec.plan.diagnoses or read_diagnosis(study) is not None


def _introduce(tuner: Tuner) -> None:
    """Take over what has been found out before, and let the listener hear of it."""
    tuner.learn_facts()
    tuner.listener.facts_known(tuner.facts)
    if tuner.knows_noise:
        tuner.listener.noise_known(tuner.noise)
    diagnosis = read_diagnosis(tuner.study)
    if diagnosis is not None:
        tuner.listener.diagnosis_known(diagnosis)


def _prepare(tuner: Tuner) -> None:
    tuner.learn_facts()
    tuner.run_defaults()
    if tuner.budget.trials_left() <= 0 or not tuner.knows_facts:
        return
    check_noise(tuner)
    check_warm(tuner)
    if tuner.spec.plan.diagnoses:
        with tuner.turn():
            find_bottleneck(tuner)


def check_noise(tuner: Tuner) -> None:
    """Run the defaults in further processes: how much do they differ, and why?"""
    if not tuner.knows_noise:
        tuner.keep_noise(_measure_noise(tuner))
    tuner.listener.noise_known(tuner.noise)


def _measure_noise(tuner: Tuner) -> Noise:
    arena, machine = tuner.arena, tuner.facts.machine
    default = latest_control(tuner.records(), tuner.workers.machine)
    attributes = tuner.frozen(default.number).user_attrs
    arena.choose_method(
        tuner.spec.pairing,
        tuner.facts,
        step_s=attributes.get("step_ms_p50", 0.0) / 1000,
        peak_bytes=attributes.get("peak_rss_mib", 0.0) * 2**20,
        memory_bytes=machine.memory_bytes,
    )
    before = read_counters()
    controls = []
    for _ in range(tuner.spec.plan.processes - 1):
        record = tuner.run_control()
        if record.gain is None and arena.method is Method.DUEL:
            arena.give_up_duels(
                f"the defaults failed when they were stopped and continued: {record.reason}"
            )
            record = tuner.run_control()
        controls.append(record)
    counted = [r for r in controls if r.gain is not None]
    gains = [record.gain for record in counted if record.gain is not None]
    comparisons = [
        Comparison(gain=1.0, low=r.gain_low, high=r.gain_high, rounds=0, reference=1.0)
        for r in counted
    ]
    scores = [r.score for r in (default, *counted) if r.score is not None]
    others = [r.others_cores for r in counted if r.others_cores is not None]
    causes = find_causes(
        machine, before, read_counters(), others_cores=max(others) if others else None
    )
    in_duels = arena.method is Method.DUEL
    return Noise(
        method=arena.method,
        why=arena.why,
        processes=1 + len(counted) + in_duels,
        between=spread_of_processes(gains, inside_spread(comparisons)),
        raw=spread_of_scores(scores),
        inside=inside_spread(comparisons),
        slice_s=arena.slice_s,
        others_cores=sorted(others)[len(others) // 2] if others else 0.0,
        causes=tuple(causes),
    )


def check_warm(tuner: Tuner) -> None:
    """See whether trials of the search can be forked by a warm parent."""
    found = read_warm_check(tuner.study.user_attrs)
    if found is not None:
        tuner.warm = found
        return
    found = _try_warm(tuner)
    tuner.keep_warm_check(found)
    if found.why:
        tuner.remark(f"warm start {'on' if found.used else 'off'}: {found.why}")


def _try_warm(tuner: Tuner) -> WarmCheck:
    spec = tuner.spec
    default = latest_control(tuner.records(), tuner.workers.machine)
    attributes = tuner.frozen(default.number).user_attrs
    modules = tuner.facts.imported
    if spec.warm is Warm.OFF or not modules:
        return WarmCheck(used=False, why="")
    timeout_s = start_timeout_s(attributes.get("first_step_s", 0.0), spec.timing.start_timeout_s)
    usable = WarmCheck(used=True, why="", modules=modules, start_timeout_s=timeout_s)
    if spec.warm is Warm.ON:
        return dataclasses.replace(usable, why="it was asked for")
    if tuner.budget.trials_expected() < _LEAST_FOR_WARM:
        return WarmCheck(used=False, why="")  # the check would cost more than it saves
    started = [r for r in tuner.records() if r.role is Role.CONTROL and r.gain is not None]
    tuner.warm = usable
    forked = [
        record
        for _ in range(max(1, len(started)))
        if (record := tuner.run_control()).gain is not None and record.forked
    ]
    threads = [tuner.frozen(r.number).user_attrs.get("threads", {}) for r in (default, *forked)]
    logs = [[math.log(r.gain) for r in rs if r.gain] for rs in (started, forked)]
    return judge_warm(logs[0], logs[1], tuner.noise.between, threads, usable)


def find_bottleneck(tuner: Tuner) -> Diagnosis:
    """Find out what holds a step of the defaults up."""
    found = read_diagnosis(tuner.study)
    if found is None:
        evidence = tuner.facts.evidence
        fed = bool(evidence.at("iterate", "iterate by keras"))
        cached = _fed_with(tuner, Feed.CACHED) if fed else None
        single = None if cached is None else _fed_with(tuner, Feed.SINGLE)
        found = diagnose(cached, single, evidence)
        write_diagnosis(tuner.study, found)
    tuner.listener.diagnosis_known(found)
    return found


def _fed_with(tuner: Tuner, feed: Feed) -> Comparison | None:
    """Return how fast the defaults' steps are with other elements; None if that fails."""
    arena, measure_s = tuner.arena, tuner.spec.plan.measure_s
    steps = Metric(objective=Objective.THROUGHPUT, unit=Unit.STEPS)
    folder = tuner.folder / "diagnosis" / feed.value
    watch = Watch(metric=steps, incumbent=None, between=tuner.noise.between)
    comparison = None
    if arena.method is Method.DUEL:
        outcome, comparison = arena.against_defaults(
            {},
            folder,
            measure_s,
            watch,
            latest_control(tuner.records(), tuner.workers.machine),
            feed,
            tuner.warm.warm_start,
        )
        tuner.keep_method()
    if comparison is None or arena.method is not Method.DUEL:
        # in steps: what the study knows of the defaults is in its own unit, and may be no rate
        outcome, real = (
            arena.alone({}, folder / f"alone-{one}", measure_s, watch, one)
            for one in (feed, Feed.REAL)
        )
        comparison = steps.compare_scores(steps.score(outcome), steps.score(real))
    done = any(notice.kind == f"fed_{feed.value}" for notice in outcome.notices)
    return comparison if done and outcome.status is Status.MEASURED else None
