"""Runs of a search on a recorded surface, as traces: autotune's own, and the usual ones by hand."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna

from autotuner.options.study_spec import SamplerName, StudySpec
from autotuner.report.progress import PlainProgress
from autotuner.statistics.sequential import Verdict, rule_of
from autotuner.study.preparation import run_first_trials
from autotuner.study.record import Role, TrialRecord
from autotuner.study.search import run_search
from autotuner.study.settings import write_spec
from autotuner.study.studies import create_study
from autotuner.study.tuner import Setting, Tuner
from autotuner.testing.course import Moment, Trace
from autotuner.testing.replay import ReplayRunner, Surface
from autotuner.testing.strategies import BY_HAND, ByHand
from autotuner.verdict.final import decision_of, run_final
from autotuner.verdict.race import run_race


def trace_by_hand(name: str, surface: Surface, seed: int, minutes: float) -> Trace:
    """Run a strategy of the usual kind until the time is up."""
    trials = ByHand(surface, seed)
    moments: list[Moment] = []
    for _ in BY_HAND[name](trials):
        moment = trials.moment()
        if moment is not None and moment.minutes > minutes:
            break
        if moment is not None:
            moments.append(moment)
    return Trace(tuple(moments), claims=name != "defaults")


class _Follow(PlainProgress):
    """Prints nothing; records after each trial what would be recommended now."""

    def __init__(self, ask: Callable[[], None], *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._ask = ask

    def say(self, text: str) -> None:
        """Drop a line."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Ask."""
        self._ask()


def trace_ours(surface: Surface, seed: int, minutes: float, sampler: SamplerName) -> Trace:
    """Run all of the tool, unchanged, with the time as its budget."""
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
        study = create_study(storage, "s", spec.objective)
        write_spec(study, spec)

        def ask() -> None:
            records = tuner.records()
            decision = decision_of(study, tuner.facts, records)
            if decision is None:
                return
            searched = {
                surface.key(r.configuration) for r in records if r.role is not Role.IMPORTED
            }
            moments.append(Moment(runner.now / 60, len(searched), decision.best.configuration))

        setting = Setting(
            study=study,
            storage=storage,
            spec=spec,
            machine=surface.machine,
            build=surface.build,
            python=Path(sys.executable),
            folder=folder,
            runner=runner,
            listener=_Follow(ask, rule_of(spec)),
            space=surface.space,
            monotonic=runner.monotonic,
        )
        with Tuner(setting) as tuner:
            run_first_trials(tuner)
            run_search(tuner)
            run_race(tuner)
            run_final(tuner, study)
            decision = decision_of(study, tuner.facts)
            ask()
    assert decision is not None
    return Trace(
        tuple(moments),
        claims=decision.verdict is Verdict.FASTER,
        deployed=decision.deployed.configuration,
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
