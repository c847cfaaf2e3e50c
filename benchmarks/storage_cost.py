"""``make bench``: what a trial costs besides the trial, and how long looking at a study takes.

Everything is real but the processes: the tuner, Optuna, the database, notes, plots and files. A
study is filled with trials as the tuner writes them; then some more are run, whose processes take
no time, so that what is left is ours. The sampler is random: others take what they take.

    python -m benchmarks.storage_cost [--sizes 10,1000,10000] [--storage URL]
"""

import argparse
import contextlib
import datetime
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection, MetaData, Table, insert, select

from autotuner.cli.browse import list_all, show_study
from autotuner.options.study_spec import SamplerName, StudySpec
from autotuner.report.dashboard_pages import REFRESHED_AT, DashboardPages
from autotuner.report.page import render_page
from autotuner.stages.loop import prepare
from autotuner.stages.perform import perform
from autotuner.stages.search import Search
from autotuner.stages.session import Clock, Store, open_session
from autotuner.study.artifacts import artifact_store
from autotuner.study.memory import SPEC, Memory
from autotuner.study.record import Role, Task, TrialRecord
from autotuner.study.storage import default_url, open_database
from autotuner.study.studies import create_study, load_study
from autotuner.study.target import Target
from autotuner.testing import postgres
from autotuner.testing.calibration import BUILD, MACHINE, better_by
from autotuner.testing.simulated import SimulatedRunner
from autotuner.verdict.result import load_result

_TRIALS = 20
_TRIAL_S = 10.0
_PER_TRIAL = (
    "trial_params",
    "trial_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_intermediate_values",
)


_AGAIN = Task(role=Role.SEARCH, configuration={"onednn": "0"})


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        function()
    return time.perf_counter() - start


def _fill(study: optuna.Study, storage: RDBStorage, count: int) -> None:
    """Add copies of the study's search trials until it has so many.

    Row by row in bulk: Optuna's add_trial takes ten minutes for ten thousand on PostgreSQL.
    """
    models = [
        trial._trial_id
        for trial in study.get_trials()
        if trial.state is TrialState.COMPLETE and trial.user_attrs.get("role") == Role.SEARCH
    ]
    known, begin = len(study.get_trials(deepcopy=False)), datetime.datetime.now()
    if known >= count:
        return
    tables = MetaData()
    tables.reflect(storage.engine)
    trials = tables.tables["trials"].c
    with storage.engine.begin() as connection:
        rows = [
            {
                "number": number,
                "study_id": study._study_id,
                "state": TrialState.COMPLETE.name,
                "datetime_start": begin + datetime.timedelta(seconds=_TRIAL_S * number),
                "datetime_complete": begin + datetime.timedelta(seconds=_TRIAL_S * (number + 1)),
            }
            for number in range(known, count)
        ]
        connection.execute(insert(tables.tables["trials"]), rows)
        new = select(trials.number, trials.trial_id).where(
            trials.study_id == study._study_id, trials.number >= known
        )
        ids = {row.number: row.trial_id for row in connection.execute(new)}
        for name in _PER_TRIAL:
            _copy_rows(connection, tables.tables[name], models, ids)


def _copy_rows(
    connection: Connection, of: Table, models: Sequence[int], ids: Mapping[int, int]
) -> None:
    """Give each new trial, by number, the rows that its model has in a table."""
    key = next(iter(of.primary_key.columns)).name
    found: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(select(of).where(of.c.trial_id.in_(models))).mappings():
        found.setdefault(row["trial_id"], []).append({k: v for k, v in row.items() if k != key})
    rows = [
        {**row, "trial_id": trial_id}
        for number, trial_id in ids.items()
        for row in found.get(models[number % len(models)], ())
    ]
    if rows:
        connection.execute(insert(of), rows)


def measure(storage: RDBStorage, url: str, name: str, size: int, home: Path) -> dict[str, float]:
    """Return seconds: of our work on a trial, and of looking at the study."""
    home.mkdir(parents=True, exist_ok=True)
    script = home / "script.py"
    script.touch()
    runner = SimulatedRunner(better_by(1.1), trial_s=_TRIAL_S, log="a line of output\n" * 50)
    spec = StudySpec(
        model=script, sampler=SamplerName.RANDOM, knobs=("threads", "kernels"), trials=10**6
    )
    study = create_study(storage, name, spec.objective)
    Memory(study).write(SPEC, spec)
    pages = DashboardPages(study, storage)
    target = Target(
        spec=spec,
        machine=MACHINE,
        build=BUILD,
        python=Path(sys.executable),
        folder=home / name,
    )
    store = Store(study=study, storage=storage, artifacts=artifact_store(home))
    clock = Clock(monotonic=runner.monotonic)
    stage = Search()

    def run_next() -> None:
        perform(session, stage.next_task(session.known()) or _AGAIN, stage.wants)

    with open_session(target, store, runner, pages, clock=clock) as session:
        prepare(session)
        for _ in range(5):
            perform(session, _AGAIN, stage.wants)
        _fill(study, storage, size)
        for record in session.trials.records():  # each trial has a note, as the run leaves it
            _note(pages, record)
        pages.refresh()
        trials = [_timed(run_next) for _ in range(_TRIALS)]
    result = load_result(study)
    assert result is not None
    refresh_s = _timed(pages.refresh)
    between = REFRESHED_AT * size - size
    # of a long study no refresh falls among these few trials: its part of each is added
    seldom_s = refresh_s / between if between > _TRIALS else 0.0
    return {
        "trial": mean(trials) + seldom_s,
        "refresh": refresh_s,
        "report": _timed(lambda: render_page(result)),
        "show": _timed(lambda: show_study(name, storage_url=url, verbose=False)),
        "list": _timed(lambda: list_all(storage_url=url)),
        "resume": _timed(lambda: load_study(open_database(url, create=False), name).get_trials()),
    }


def _note(pages: DashboardPages, record: TrialRecord) -> None:
    assert pages._facts is not None
    pages._write_note(record, pages._facts)


def main() -> None:
    """Print a table for the README of benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10,1000,10000")
    parser.add_argument(
        "--storage", help="such as postgresql://... [default: SQLite, and a PostgreSQL of its own]"
    )
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(
        f"ms for each trial, and its part of a trial of {_TRIAL_S:g} s; seconds for the rest\n\n"
        "| storage | trials | a trial | part | notes and plots | report | show | list | resume |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    sizes = [int(size) for size in arguments.sizes.split(",")]
    _measure_all(sizes, arguments.storage)
    if arguments.storage is None and postgres.AVAILABLE:
        with (
            tempfile.TemporaryDirectory() as folder,
            postgres.running(Path(folder) / "server") as server,
        ):
            _measure_all(sizes, server.url)
    elif arguments.storage is None:
        print(f"SKIPPED: {postgres.REASON}")


def _measure_all(sizes: Sequence[int], given: str | None) -> None:
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / ".autotune"
            url = given or default_url(home)
            storage = open_database(url, create=True)
            name = f"bench-{os.getpid()}-{size}"
            found = measure(storage, url, name, size, home)
            kind = storage.engine.dialect.name
            print(
                f"| {kind} | {size:,} | {1000 * found['trial']:.0f} ms | "
                f"{found['trial'] / _TRIAL_S:.2%} | {found['refresh']:.2f} s | "
                f"{found['report']:.2f} s | {found['show']:.2f} s | {found['list']:.2f} s | "
                f"{found['resume']:.2f} s |",
                flush=True,
            )
            optuna.delete_study(study_name=name, storage=storage)
            storage.engine.dispose()


if __name__ == "__main__":
    main()
