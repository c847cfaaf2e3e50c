"""The list of all stages, and the loop that runs one.

The loop is the only place that knows of other workers. Each worker takes the next task that a stage
wants. A stage is over when it wants no more tasks and no other worker runs a trial of it, because
the next stage depends on all of them.
"""

from collections.abc import Callable

from autotuner.stages.final import Final, decide_on
from autotuner.stages.guard import guard_for
from autotuner.stages.known import Known, Stage
from autotuner.stages.once import once
from autotuner.stages.perform import perform
from autotuner.stages.prepare import BOTTLENECK, DEFAULTS, NOISE_CHECK, WARM_START
from autotuner.stages.race import Race
from autotuner.stages.search import Search, enumerates
from autotuner.stages.session import Session
from autotuner.stages.usual import UsualCandidates
from autotuner.study.events import DiagnosisKnown, FactsKnown, NoiseKnown
from autotuner.study.memory import DIAGNOSIS, NOISE
from autotuner.study.samplers import optuna_sampler
from autotuner.study.study_facts import StudyFacts
from autotuner.verdict.decision import Decision


def tune(
    session: Session, before_search: Callable[[StudyFacts], None] = lambda facts: None
) -> Decision | None:
    """Tune a script, from its defaults to the verdict; return the decision.

    Any number of workers may run this on one study at the same time.

    Args:
        session: of this process.
        before_search: called once the search space is known.

    Raises:
        ScriptFailedError: if the script does not run with TensorFlow's defaults.
    """
    prepare(session)
    repeat(session, UsualCandidates())
    before_search(session.facts)
    search(session)
    repeat(session, Race())
    repeat(session, Final())
    guard(session)
    return decide_on(session.known())


def prepare(session: Session) -> None:
    """Measure what the search depends on."""
    session.on_event(FactsKnown(once(session, DEFAULTS)))
    diagnoses = session.target.spec.plan.diagnoses
    if session.budget().trials_left > 0:  # otherwise there is no search
        once(session, NOISE_CHECK)
        report_noise(session)
        once(session, WARM_START)
        if diagnoses:
            once(session, BOTTLENECK)
    else:
        report_noise(session)
    diagnosis = session.memory.read(DIAGNOSIS)
    if diagnosis is not None:
        session.on_event(DiagnosisKnown(diagnosis))


def report_noise(session: Session) -> None:
    """Report the noise, if it is known."""
    noise = session.memory.read(NOISE)
    if noise is not None:
        session.on_event(NoiseKnown(noise))


def search(session: Session) -> None:
    """Run the search, and write a remark if it ends before its budget is spent."""
    spec, trials = session.target.spec, session.trials
    count = len(trials.records())
    trials.use_sampler(optuna_sampler(spec.sampler, seed=session.facts.seed, trials=count))
    repeat(session, Search())
    known = session.known()
    if known.budget.searches and not enumerates(known):
        session.remark("the search ends here: further trials are unlikely to gain")


def guard(session: Session) -> None:
    """Check that a faster configuration computes the same; the leader does, others don't wait."""
    decision = decide_on(session.known())
    if decision is not None and decision.is_faster and session.workers.is_leader():
        once(session, guard_for(decision.best.configuration))


def repeat(session: Session, stage: Stage, after: Callable[[Known], None] | None = None) -> None:
    """Run the tasks of a stage until it wants no more of them from any worker.

    Args:
        session: of this process.
        stage: plans the tasks.
        after: called after each task; None: nothing is.
    """
    while True:
        with session.turn():
            known = session.known()
            task = stage.next_task(known)
            if task is not None:
                perform(session, task, stage.wants)
                if after is not None:
                    after(session.known())
                continue
        awaited = stage.awaits_others(known) and session.workers.is_leader()
        if not awaited and not (stage.roles and session.trials.others_run(stage.roles)):
            return
        session.wait()
