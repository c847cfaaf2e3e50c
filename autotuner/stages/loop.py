"""The list of all stages, and the loop that runs one.

The loop is the only place that knows of other workers. Each takes the next task that a stage wants.
A stage is over when it wants nothing more and no other worker has a trial of it running, as the
next stage depends on all of them.
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
from autotuner.study.facts import StudyFacts
from autotuner.study.memory import DIAGNOSIS, NOISE
from autotuner.verdict.decision import Decision


def tune(
    session: Session, before_search: Callable[[StudyFacts], None] = lambda facts: None
) -> Decision | None:
    """Tune a script, from its defaults to the verdict; return the decision.

    Any number of workers may do so on one study at the same time.

    Args:
        session: what to work with.
        before_search: called when it is known what is searched.

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
    """Find out what the search needs to know."""
    session.on_event(FactsKnown(once(session, DEFAULTS)))
    diagnoses = session.target.spec.plan.diagnoses
    if session.budget().trials_left > 0:  # else nothing will be searched
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
    """Report the noise, where it is known."""
    noise = session.memory.read(NOISE)
    if noise is not None:
        session.on_event(NoiseKnown(noise))


def search(session: Session) -> None:
    """Run the search, and say so if it ends before its budget does."""
    repeat(session, Search())
    known = session.known()
    if known.budget.searches and not enumerates(known):
        session.remark("the search ends here: further trials can hardly be expected to gain")


def guard(session: Session) -> None:
    """Check that a faster configuration computes the same; one worker does, none waits for it."""
    decision = decide_on(session.known())
    if decision is not None and decision.is_faster and session.workers.is_leader():
        once(session, guard_for(decision.best.configuration))


def repeat(
    session: Session, stage: Stage, after: Callable[[Known], None] = lambda known: None
) -> None:
    """Carry out what a stage wants until it wants nothing more, from no worker.

    Args:
        session: what to work with.
        stage: plans.
        after: called after each task.
    """
    while True:
        with session.turn():
            known = session.known()
            task = stage.next_task(known)
            if task is not None:
                perform(session, task, stage.wants)
                after(session.known())
                continue
        awaited = stage.awaits_others(known) and session.workers.is_leader()
        if not awaited and not (stage.roles and session.trials.others_run(stage.roles)):
            return
        session.wait()
