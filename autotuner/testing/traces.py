"""Traces of searches on a recorded surface: autotune's own, and common ones written by hand."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import optuna

from autotuner.options.study_spec import SamplerName, StudySpec
from autotuner.stages.final import decide_on
from autotuner.stages.loop import tune
from autotuner.stages.session import Clock, Store, open_session
from autotuner.statistics.sequential import Verdict
from autotuner.study.events import Event, TrialEnded
from autotuner.study.record import Role
from autotuner.study.studies import create_study
from autotuner.study.target import Target
from autotuner.testing.course import Moment, Trace
from autotuner.testing.replay import ReplayRunner, Surface
from autotuner.testing.strategies import BY_HAND, ByHand


def trace_by_hand(name: str, surface: Surface, seed: int, minutes: float) -> Trace:
    """Run a strategy written by hand until the time is up."""
    trials = ByHand(surface, seed)
    moments: list[Moment] = []
    for _ in BY_HAND[name](trials):
        moment = trials.moment()
        if moment is not None and moment.minutes > minutes:
            break
        if moment is not None:
            moments.append(moment)
    return Trace(tuple(moments), claims=name != "defaults")


def trace_ours(surface: Surface, seed: int, minutes: float, sampler: SamplerName) -> Trace:
    """Run all of autotune, unchanged, with the time as its budget."""
    runner = ReplayRunner(surface, seed)
    moments: list[Moment] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        script = folder / "script.py"
        script.touch()
        storage = optuna.storages.InMemoryStorage()
        spec = StudySpec(
            model=script,
            seed=seed,
            sampler=sampler,
            budget_s=60 * minutes,
            knobs=tuple(surface.provenance.axes),
        )
        store = Store(study=create_study(storage, "s", spec.objective), storage=storage)
        target = Target(
            spec=spec,
            machine=surface.machine,
            build=surface.build,
            python=Path(sys.executable),
            folder=folder,
            space=surface.space,
        )

        def look(event: Event) -> None:
            """Record the recommendation after each trial."""
            if isinstance(event, TrialEnded):
                note()

        def note() -> None:
            known = session.known()
            decision = decide_on(known)
            if decision is None:
                return
            searched = {
                surface.key(r.configuration) for r in known.records if r.role is not Role.IMPORTED
            }
            moments.append(Moment(runner.now / 60, len(searched), decision.best.configuration))

        clock = Clock(monotonic=runner.monotonic)
        with open_session(target, store, runner, look, clock=clock) as session:
            decision = tune(session)
            note()
    assert decision is not None
    return Trace(
        tuple(moments),
        claims=decision.verdict is Verdict.FASTER,
        deployed=decision.recommended.configuration,
    )


SAMPLERS: Mapping[str, SamplerName] = {
    "autotune": SamplerName.GP,
    "autotune, TPE": SamplerName.TPE,
    "autotune, random": SamplerName.RANDOM,
}
STRATEGIES = (*SAMPLERS, *BY_HAND)


def trace(name: str, surface: Surface, seed: int, minutes: float) -> Trace:
    """Run a strategy once."""
    if name in SAMPLERS:
        return trace_ours(surface, seed, minutes, SAMPLERS[name])
    return trace_by_hand(name, surface, seed, minutes)
