"""``make bench-search``: how soon which search recommends how good a configuration.

Every strategy runs on recorded surfaces (autotuner/testing/surfaces), on a virtual clock that
advances by the recorded times. Its regret is the part of the best configuration's true speed that
its recommendation misses. Prints a table for each surface; ``--output`` writes them into a page,
with pictures (docs/search-results.md).

    python -m benchmarks.search [--seeds 50] [--minutes 12] [--only STRATEGY] [--surface NAME]
        [--budget MINUTES] [--recordings FOLDER] [--output FOLDER]
"""

import argparse
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import optuna

from autotuner.testing.course import Trace, course, regret_of
from autotuner.testing.replay import load_surface
from autotuner.testing.surface import FOLDER
from autotuner.testing.traces import STRATEGIES, trace
from benchmarks.search_page import OURS, RIVALS, Results, WholeRuns, as_text, write_page

BUDGETS = (2.0, 3.0, 4.0, 5.0, 8.0, 12.0)


def _run_block(work: tuple[str, Path, float, Sequence[int]]) -> list[Trace]:
    name, file, minutes, seeds = work
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = load_surface(file.stem, file.parent)
    return [trace(name, known, seed, minutes) for seed in seeds]


def run_all(
    names: Sequence[str], file: Path, seeds: int, minutes: float
) -> Iterator[tuple[str, list[Trace]]]:
    """Yield each strategy and its runs on a surface, on all CPUs."""
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        for name in names:
            blocks = [(name, file, minutes, range(k, seeds, workers)) for k in range(workers)]
            yield name, [one for found in pool.map(_run_block, blocks) for one in found]


def whole_runs(
    file: Path, seeds: int, budgets: Sequence[float], rivals: Mapping[str, Sequence[Trace]]
) -> Iterator[WholeRuns]:
    """Yield what runs of the tool with different budgets come to, from first trial to verdict.

    A trace of one long run knows what is recommended early on, but has all of its budget before it;
    a user who has three minutes gets a run that holds back a part of them for its final. And what
    is not proven to be faster is not deployed: the files hold the defaults then.
    """
    surface = load_surface(file.stem, file.parent)
    for minutes in budgets:
        [(_, traces)] = run_all([OURS], file, seeds, minutes)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--only", choices=STRATEGIES, action="append")
    parser.add_argument("--surface", action="append", help="a recording's name; all if not given")
    parser.add_argument("--budget", type=float, action="append", help="of whole runs, in minutes")
    parser.add_argument("--recordings", type=Path, default=FOLDER)
    parser.add_argument("--output", type=Path, help="folder for the page and its pictures")
    given = parser.parse_args()
    pages = []
    for file in sorted(given.recordings.glob("*.jsonl")):
        if given.surface and file.stem not in given.surface:
            continue
        surface = load_surface(file.stem, file.parent)
        found = dict(run_all(given.only or STRATEGIES, file, given.seeds, given.minutes))
        courses = {one: course(surface, traces, given.minutes) for one, traces in found.items()}
        rivals = {one: found[one] for one in RIVALS if one in found}
        budgets = given.budget or BUDGETS
        whole = list(whole_runs(file, given.seeds, budgets, rivals)) if OURS in found else []
        pages.append(Results(surface=surface, courses=courses, seeds=given.seeds, whole=whole))
        print(as_text(pages[-1]), flush=True)
    if given.output is not None:
        write_page(pages, given.output)


if __name__ == "__main__":
    main()
