"""Studies in PostgreSQL: the same as in SQLite, and through a restart of the server."""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import create_trial
from sqlalchemy import Connection, event

from autotuner.errors import UserError
from autotuner.study.bulk import count_trials, read_trials
from autotuner.study.record import read_records
from autotuner.study.storage import open_database
from autotuner.study.studies import load_study
from autotuner.testing import postgres
from autotuner.testing.simulated import SimulatedRunner
from autotuner.verdict.result import load_result
from tests.commands import QUICK, SCRIPT
from tests.fakes import Bench, crash_with_many, run_all
from tests.processes import living_with
from tests.run_process import RunProcess, ended

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not postgres.AVAILABLE, reason=postgres.REASON),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    """Run a server for the tests of this file."""
    with postgres.running(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@contextlib.contextmanager
def storage_of(server: postgres.Server) -> Iterator[BaseStorage]:
    """Open the server's studies, and close the connections again."""
    storage = open_database(server.url, create=False)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def start(folder: Path, server: postgres.Server, study: str, mark: str) -> RunProcess:
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(SCRIPT)
    command = ["--model", "train.py", "--study", study, "--storage", server.url, *QUICK]
    return RunProcess(folder, *command, "--pairs", "1", "--sequential", mark=mark)


def check(server: postgres.Server, name: str) -> None:
    """Check that a study has ended, and that each trial counts once."""
    with storage_of(server) as storage:
        study = load_study(storage, name)
        trials = study.get_trials(deepcopy=False)
        assert load_result(study) is not None
    roles = [t.user_attrs["role"] for t in trials if t.state is optuna.trial.TrialState.COMPLETE]
    assert roles.count("default") == 1
    assert sum(role in ("default", "recipe", "search") for role in roles) == 5
    assert all(trial.state.is_finished() for trial in trials)


@pytest.mark.long
def test_two_runs_and_a_restart(server: postgres.Server, tmp_path: Path) -> None:
    """Two processes tune different studies in one database; its server restarts in mid-run."""
    mark = uuid.uuid4().hex
    runs = {name: start(tmp_path / name, server, name, mark) for name in ("one", "two")}
    for run in runs.values():
        run.until(ended("default"))
    stop = threading.Event()

    def restart() -> None:
        while not stop.wait(5):
            server.stop()
            time.sleep(1)
            server.start()

    restarts = threading.Thread(target=restart)
    restarts.start()
    try:
        codes = {name: run.end() for name, run in runs.items()}
    finally:
        stop.set()
        restarts.join()
    for name, run in runs.items():
        assert codes[name] == 0, run.stderr
        assert run.events[-1]["event"] == "result"
        check(server, name)
    assert living_with(mark) == []


def test_a_session_that_ends_in_the_middle_of_a_read(server: postgres.Server) -> None:
    """Optuna then tries a slower query in the same transaction, which must not be the end of it."""
    with storage_of(server) as storage:
        assert isinstance(storage, RDBStorage)
        study = optuna.create_study(study_name="cut off", storage=storage)
        study.add_trials([create_trial(value=float(n)) for n in range(3)])
        assert len(study.trials) == 3  # what comes after these is read by the quicker query
        reads = 0

        def end_session(connection: Connection, *rest: object) -> None:
            nonlocal reads
            if "trials.trial_id >" not in str(rest[1]):
                return
            reads += 1
            if reads == 1:
                pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
                with storage.engine.connect() as other:
                    other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")

        event.listen(storage.engine, "before_cursor_execute", end_session)
        try:
            values = [trial.value for trial in study.get_trials(deepcopy=False)]
        finally:
            event.remove(storage.engine, "before_cursor_execute", end_session)
    assert reads > 1
    assert values == [0.0, 1.0, 2.0]


@pytest.mark.long
def test_killed_and_resumed(server: postgres.Server, tmp_path: Path) -> None:
    """As with SQLite: running trials are swept, finished ones count once."""
    mark = uuid.uuid4().hex
    for moment in ("default", "control", "search"):
        run = start(tmp_path / "x", server, "killed", mark)
        run.until(ended(moment))
        run.process.kill()
        run.end()
    last = start(tmp_path / "x", server, "killed", mark)
    assert last.end() == 0, last.stderr
    check(server, "killed")


def test_a_whole_study_with_its_pages(server: postgres.Server, tmp_path: Path) -> None:
    """Notes, plots and attributes are written and read as in SQLite."""
    bench = Bench(tmp_path)
    bench.url, bench.with_pages = server.url, True
    run_all(bench.session(SimulatedRunner(crash_with_many), trials=20))
    bench.pages.refresh()
    with storage_of(server) as storage:
        study = load_study(storage, "s")
        trials = read_trials(storage, study)
        assert read_records(trials) == read_records(study.get_trials())
        assert count_trials(storage)["s"] == len(trials)
        assert any(len(trial.intermediate_values) > 1 for trial in study.get_trials())
        result = load_result(study, trials)
    bench.close()
    assert result is not None
    assert result.decision.verdict.value == "FASTER"
    assert result.effects


def test_errors_are_clear(server: postgres.Server) -> None:
    """A wrong password is no reason to wait, and is not shown."""
    wrong = server.url.replace("p%40ss%2Fword", "secret")
    with pytest.raises(UserError, match="password authentication failed") as error:
        open_database(wrong, create=False)
    assert "secret" not in error.value.message
