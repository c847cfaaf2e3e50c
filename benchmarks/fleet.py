"""``make bench-fleet``: many workers on one study in a real PostgreSQL.

Each worker is a process that replays a recorded surface, with a short sleep in place of each
trial's minutes, so that what is measured is the storage, the claims and the search. With ``--kill``
workers are killed at random meanwhile, and replaced: nothing may be lost, nor done twice.

    python -m benchmarks.fleet [--workers 1 2 8 32 64] [--trials 96] [--repetitions 2] [--kill]
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import psycopg
from optuna.trial import TrialState

from autotuner.options.study_spec import StudySpec
from autotuner.stages.final import decide_on
from autotuner.stages.known import Known
from autotuner.stages.loop import tune
from autotuner.stages.session import Clock, Store, open_session
from autotuner.study import bulk, retrying
from autotuner.study.memory import FACTS, NOISE, SPEC, Memory
from autotuner.study.record import ENDED, Role, TrialRecord, read_records
from autotuner.study.storage import open_database
from autotuner.study.studies import create_study, load_study
from autotuner.study.target import Target
from autotuner.study.trials import WITHDRAWN
from autotuner.study.workers import GRACE_S, Workers
from autotuner.testing import postgres
from autotuner.testing.replay import ReplayRunner, Surface, load_surface
from autotuner.trial.request import TrialRequest

_SLEEP_S = 0.5
_LOOK_S = 0.05
_KILL_EVERY_S = 2.0
_SEARCHED = (Role.DEFAULT, Role.RECIPE, Role.SCRIPT, Role.SEARCH)


class SleepyRunner(ReplayRunner):
    """A replay whose processes take a moment by the real clock."""

    def _start_process(self, request: TrialRequest) -> None:
        super()._start_process(request)
        time.sleep(_SLEEP_S)


class _Stopwatch:
    """Adds up the time that this process spends in the database, waits and repetitions included."""

    def __init__(self) -> None:
        self.seconds, self.operations = 0.0, 0
        self._local = threading.local()

    def timed(self, retry: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that all access to the database goes through, timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._local, "inside", False):
                return retry(*args, **kwargs)
            self._local.inside, before = True, time.monotonic()
            try:
                return retry(*args, **kwargs)
            finally:
                self._local.inside = False
                self.seconds += time.monotonic() - before
                self.operations += 1

        return call


def work(url: str, surface: Surface, spec: StudySpec, number: int, folder: Path, seed: int) -> None:
    """Be a worker on a machine of its own name, to the end of the study."""
    host = f"machine-{number:03d}"
    socket.gethostname = lambda: host  # so that others can tell only by its signs whether it lives
    watch = _Stopwatch()
    timed = watch.timed(retrying.retry)
    retrying.retry = bulk.retry = timed  # type: ignore[attr-defined]
    storage = open_database(url, create=False)
    study = load_study(storage, "s")
    runner = SleepyRunner(surface, 1000 * seed + number)
    with Workers(study, shared=True, machine=host, poll_s=0.5) as workers:
        target = Target(
            spec=spec,
            machine=dataclasses.replace(surface.machine, host=host),
            build=surface.build,
            python=Path(sys.executable),
            folder=folder / host,
            space=surface.space,
        )
        store = Store(study=study, storage=storage)
        clock = Clock(monotonic=runner.monotonic)
        with open_session(
            target, store, runner, lambda event: None, workers=workers, clock=clock
        ) as session:
            tune(session)
    took = {"database_s": watch.seconds, "operations": watch.operations}
    (folder / f"{host}-{os.getpid()}.json").write_text(json.dumps(took))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What came of one run. ``operation_ms``: how long an operation of the storage takes.

    ``operations``: of the storage for each trial, those of workers that wait for others included.
    ``locked``: sessions that waited for a lock in the database, in the mean. ``twice``: pairs of
    trials that measured the same configuration at the same time. ``withdrawn``: tasks that another
    worker had taken on in the same moment. ``lost``: trials whose worker was killed, ``again``: how
    many of these were run again. ``regret``: what the recommended configuration misses of the best.
    """

    trials: int
    per_s: float
    operations: float
    operation_ms: float
    locked: float
    twice: int
    withdrawn: int
    searched: int
    lost: int
    again: int
    regret: float


def run(url: str, surface: Surface, *, workers: int, trials: int, seed: int, kill: bool) -> Run:
    """Run a study to its end with so many workers."""
    storage = open_database(url, create=True)
    if "s" in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name="s", storage=storage)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        script = folder / "script.py"
        script.touch()
        knobs = tuple(surface.provenance.axes)
        spec = StudySpec(model=script, seed=seed, trials=trials, knobs=knobs)
        study = create_study(storage, "s", spec.objective)
        Memory(study).write(SPEC, spec)
        storage.remove_session()
        storage.engine.dispose()  # a connection is not for several processes
        context = multiprocessing.get_context("fork")

        def start(number: int) -> BaseProcess:
            process = context.Process(
                target=work, args=(url, surface, spec, number, folder, seed), daemon=True
            )
            process.start()
            return process

        began = time.monotonic()
        processes = [start(number) for number in range(workers)]
        with _counting_locks(url) as seen:
            killed = _kill_some(url, processes, start, workers, seed) if kill else 0
            while any(process.is_alive() for process in processes):
                time.sleep(_LOOK_S)
        wall_s = time.monotonic() - began
        failed = sum(process.exitcode not in (0, -signal.SIGKILL) for process in processes)
        assert not failed, f"{failed} workers failed"
        took = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    study = load_study(storage, "s")
    records = read_records(study.get_trials(deepcopy=False))
    found = _judge(study, surface, records, wall_s)
    assert not kill or killed, "the study was over before anybody was killed"
    operations = sum(one["operations"] for one in took)
    return dataclasses.replace(
        found,
        operations=operations / found.trials,
        operation_ms=1000 * sum(one["database_s"] for one in took) / operations,
        locked=sum(seen) / max(1, len(seen)),
    )


def _kill_some(
    url: str,
    processes: list[BaseProcess],
    start: Callable[[int], BaseProcess],
    workers: int,
    seed: int,
) -> int:
    """Kill a worker of the search now and then, by -9, and let a new one come; return how many."""
    draw, killed = random.Random(seed), 0
    while not _searches(url):
        time.sleep(_LOOK_S)
    while killed < workers // 2:
        time.sleep(_KILL_EVERY_S)
        alive = [process for process in processes if process.is_alive()]
        if not alive:
            break
        victim = draw.choice(alive)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        killed += 1
        processes.append(start(workers + killed))
    return killed


def _searches(url: str) -> bool:
    """Tell whether the study's search has begun."""
    asked = "select 1 from trial_user_attributes where key = 'role' and value_json = '\"search\"'"
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(asked).fetchone() is not None


@contextmanager
def _counting_locks(url: str) -> Iterator[list[int]]:
    """Count, again and again, the sessions that wait for a lock."""
    seen: list[int] = []
    over = threading.Event()
    asked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"

    def look() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(_LOOK_S):
                row = connection.execute(asked).fetchone()
                seen.append(0 if row is None else int(row[0]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _judge(
    study: optuna.Study,
    surface: Surface,
    records: Sequence[TrialRecord],
    wall_s: float,
) -> Run:
    memory = Memory(study)
    facts, spec = memory.read(FACTS), memory.read(SPEC)
    assert facts is not None
    assert spec is not None
    known = Known(spec=spec, facts=facts, records=records, noise=memory.read(NOISE))
    decision = decide_on(known)
    assert decision is not None
    default = facts.space.default
    ended = [r for r in records if r.state in ENDED]
    lost = [r for r in records if r.lost and r.role is Role.SEARCH]
    measured = {r.key(default) for r in ended if r.role is Role.SEARCH}
    assert not any(r.state is TrialState.RUNNING for r in records)
    return Run(
        trials=len(ended),
        per_s=len(ended) / wall_s,
        operations=0.0,
        operation_ms=0.0,
        locked=0.0,
        twice=_twice(study, records, default),
        withdrawn=sum(r.reason.startswith(WITHDRAWN) for r in records),
        searched=sum(r.role in _SEARCHED for r in ended),
        lost=len(lost),
        again=sum(r.key(default) in measured for r in lost),
        regret=surface.regret(decision.best.configuration),
    )


def _twice(study: optuna.Study, records: Sequence[TrialRecord], default: Any) -> int:
    """Return how many pairs of trials of the search measured the same at the same time."""
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    ended = {r.number: r for r in records if r.state in ENDED and r.role in _SEARCHED}
    for trial in study.get_trials(deepcopy=False):
        if trial.number in ended and trial.datetime_start and trial.datetime_complete:
            key = ended[trial.number].key(default)
            spans.setdefault(key, []).append((trial.datetime_start, trial.datetime_complete))
    return sum(
        one[0] < other[1] and other[0] < one[1]
        for found in spans.values()
        for k, one in enumerate(found)
        for other in found[:k]
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8, 32, 64])
    parser.add_argument("--trials", type=int, default=96)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--surface", default="image_input")
    parser.add_argument("--kill", action="store_true", help="kill half of the workers meanwhile")
    given = parser.parse_args()
    surface = load_surface(given.surface)
    print(
        f"{given.trials} trials of the search on {given.surface}, {_SLEEP_S} s for each process "
        f"started; signs of life run out after {GRACE_S:.0f} s\n\n"
        "| workers | trials/s | storage operations a trial | ms an operation "
        "| sessions waiting for a lock "
        "| measured twice at once | withdrawn | trials of the search | lost | run again "
        "| regret, % |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as text, postgres.running(Path(text) / "server") as server:
        for workers in given.workers:
            runs = [
                run(
                    server.url,
                    surface,
                    workers=workers,
                    trials=given.trials,
                    seed=seed,
                    kill=given.kill and workers > 1,
                )
                for seed in range(given.repetitions)
            ]
            cells = [
                f"{median(r.per_s for r in runs):.1f}",
                f"{median(r.operations for r in runs):.0f}",
                f"{median(r.operation_ms for r in runs):.0f}",
                f"{median(r.locked for r in runs):.2f}",
                f"{sum(r.twice for r in runs)}",
                f"{sum(r.withdrawn for r in runs)}",
                " ".join(f"{r.searched}" for r in runs),
                f"{sum(r.lost for r in runs)}",
                f"{sum(r.again for r in runs)}",
                " ".join(f"{100 * r.regret:.1f}" for r in runs),
            ]
            print(f"| {workers} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
