"""``make bench-search``: how soon which search recommends how good a configuration.

Every strategy runs on recorded surfaces (benchmarks/surfaces), on a virtual clock that is charged
with what was recorded. Its regret is what the configuration that it recommends misses of the best
one's true speed. Prints a table for each surface; with ``--output`` writes them into a page, with
pictures (docs/search-results.md).

    python -m benchmarks.search [--seeds 50] [--minutes 12] [--only STRATEGY] [--surface NAME]
        [--output FOLDER]
"""

import argparse
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

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
from autotuner.verdict.final import decision_of, run_final
from autotuner.verdict.race import run_race
from benchmarks.course import Moment, Trace, course, regret_of
from benchmarks.replay import ReplayRunner, Surface, load_surface
from benchmarks.search_page import OURS, RIVALS, Results, WholeRuns, as_text, write_page
from benchmarks.strategies import BY_HAND, ByHand
from benchmarks.surface import FOLDER


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
    """Says nothing, but asks after each trial what would be recommended now."""

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
        deployed=decision.recommended.configuration,
    )


SAMPLERS: Mapping[str, SamplerName] = {
    "autotune": SamplerName.GP,
    "autotune, TPE": SamplerName.TPE,
    "autotune, random": SamplerName.RANDOM,
}
STRATEGIES = (*SAMPLERS, *BY_HAND)
BUDGETS = (2.0, 3.0, 4.0, 5.0, 8.0, 12.0)


def trace(name: str, surface: Surface, seed: int, minutes: float) -> Trace:
    """Run a strategy once."""
    if name in SAMPLERS:
        return trace_ours(surface, seed, minutes, SAMPLERS[name])
    return trace_by_hand(name, surface, seed, minutes)


def _run_block(work: tuple[str, str, float, Sequence[int]]) -> list[Trace]:
    name, surface, minutes, seeds = work
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = load_surface(surface)
    return [trace(name, known, seed, minutes) for seed in seeds]


def run_all(
    names: Sequence[str], surface: str, seeds: int, minutes: float
) -> Iterator[tuple[str, list[Trace]]]:
    """Yield each strategy and its runs on a surface, on all CPUs."""
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        for name in names:
            blocks = [(name, surface, minutes, range(k, seeds, workers)) for k in range(workers)]
            yield name, [one for found in pool.map(_run_block, blocks) for one in found]


def whole_runs(
    surface: Surface, seeds: int, rivals: Mapping[str, Sequence[Trace]]
) -> Iterator[WholeRuns]:
    """Yield what runs of the tool with different budgets come to, from first trial to verdict.

    A trace of one long run knows what is recommended early on, but has all of its budget before it;
    a user who has three minutes gets a run that holds back a part of them for its final. And what
    is not proven to be faster is not deployed: the files hold the defaults then.
    """
    for minutes in BUDGETS:
        [(_, traces)] = run_all([OURS], surface.provenance.name, seeds, minutes)
        used = median(one.moments[-1].minutes for one in traces)
        yield WholeRuns(
            asked=minutes,
            used=used,
            claims=sum(one.claims for one in traces) / len(traces),
            deployed=[regret_of(surface, one.deployed) for one in traces],
            regrets={
                OURS: [surface.regret(one.moments[-1].recommended) for one in traces],
                **{
                    name: [regret_of(surface, one.at_minutes(used)) for one in found]
                    for name, found in rivals.items()
                },
            },
        )


def main() -> None:
    """Run all of it."""
    recorded = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--only", choices=STRATEGIES, action="append")
    parser.add_argument("--surface", choices=recorded, action="append")
    parser.add_argument("--output", type=Path, help="folder for the page and its pictures")
    given = parser.parse_args()
    pages = []
    for name in given.surface or recorded:
        surface = load_surface(name)
        found = dict(run_all(given.only or STRATEGIES, name, given.seeds, given.minutes))
        courses = {one: course(surface, traces, given.minutes) for one, traces in found.items()}
        rivals = {one: found[one] for one in RIVALS if one in found}
        whole = list(whole_runs(surface, given.seeds, rivals)) if OURS in found else []
        pages.append(Results(surface=surface, courses=courses, seeds=given.seeds, whole=whole))
        print(as_text(pages[-1]), flush=True)
    if given.output is not None:
        write_page(pages, given.output)


if __name__ == "__main__":
    main()
