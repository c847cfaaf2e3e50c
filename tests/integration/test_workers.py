"""Real workers on one study in a real PostgreSQL: they join, are killed, and others end it."""

import contextlib
import socket
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autotuner.cli.main import main
from autotuner.study.record import Role, TrialRecord, read_records
from autotuner.study.storage import is_shared, open_database, open_storage
from autotuner.study.studies import load_study
from autotuner.testing import postgres
from tests.commands import QUICK, SCRIPT, STUBBED, autotune
from tests.processes import living_with
from tests.run_process import RunProcess, ended, role_phase

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not postgres.AVAILABLE, reason=postgres.REASON),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    """Run a server for the tests of this file."""
    with postgres.running(tmp_path_factory.mktemp("postgres")) as server:
        yield server


class Site:
    """A machine with a copy of the script, on which several processes take turns."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.study = folder.name
        self.mark = uuid.uuid4().hex

    def _start(self, name: str, command: str, *options: str) -> RunProcess:
        folder = self.folder / name
        folder.mkdir()
        (folder / "train.py").write_text(SCRIPT)
        where = ["--model", "train.py", "--storage", self.url, "--study", self.study]
        lock = str(self.folder / "lock")
        return RunProcess(
            folder, *where, *options, mark=self.mark, command=command, AUTOTUNE_LOCK=lock
        )

    def run(self, *more: str) -> RunProcess:
        """Begin the study."""
        return self._start("run", "run", *QUICK, "--pairs", "1", *more)

    def worker(self) -> RunProcess:
        """Join it."""
        return self._start("worker", "worker", "--wait-for-study", "60s")

    def records(self) -> list[TrialRecord]:
        """Return the study's trials."""
        storage = open_database(self.url, create=False)
        with contextlib.closing(storage.engine.raw_connection()):
            records = read_records(load_study(storage, self.study).get_trials(deepcopy=False))
        storage.remove_session()
        storage.engine.dispose()
        return records


def check(site: Site) -> list[TrialRecord]:
    """Everything has ended, the budget is exact, nothing runs any more."""
    records = site.records()
    assert all(not record.is_running for record in records)
    roles = Counter(record.role for record in records if record.counts)
    assert roles[Role.DEFAULT] == 1
    assert roles[Role.DEFAULT] + roles[Role.RECIPE] + roles[Role.SEARCH] == 5
    pairs = Counter(r.pair for r in records if r.role is Role.FINAL and r.counts)
    assert set(pairs.values()) == {2}
    assert living_with(site.mark) == []
    return records


@pytest.mark.long
@pytest.mark.parametrize(("dies", "more"), [("run", ()), ("worker", ("--sequential",))])
def test_one_of_two_is_killed_and_the_other_ends_the_study(
    server: postgres.Server, tmp_path: Path, dies: str, more: tuple[str, ...]
) -> None:
    """Both measure; one is killed with -9 in mid-trial; the other repeats that trial, and ends."""
    site = Site(tmp_path, server.url)
    run = site.run(*more)
    run.until(ended("default"))
    worker = site.worker()
    victim, other = (run, worker) if dies == "run" else (worker, run)
    victim.until(role_phase("search", "measurement", victim))
    victim.process.kill()
    victim.end()
    assert other.end() == 0, other.stderr
    records = check(site)
    lost = [record for record in records if record.lost]
    assert [record.role for record in lost] == [Role.SEARCH]
    assert lost[0].state is TrialState.FAIL
    again = [r for r in records if r.configuration == lost[0].configuration and r.counts]
    assert again
    assert len({record.owner for record in records if record.counts}) >= 2


def refused(folder: Path, *options: str) -> str:
    """Try to join in a folder, and return why that is refused."""
    done = autotune("worker", *options, cwd=folder, **STUBBED)
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_a_worker_waits_for_its_study_and_another_script_does_not_join(
    server: postgres.Server, tmp_path: Path
) -> None:
    """A worker that starts first waits, and in the end both have the verdict.

    A copy that differs, other arguments, an unknown study: refused with a reason.
    """
    site = Site(tmp_path, server.url)
    worker = site.worker()
    worker.until(lambda event: "waiting for study" in event.get("text", ""))
    run = site.run("--sequential")
    run.until(ended("default"))
    other = tmp_path / "other.py"
    other.write_text(SCRIPT + "# another\n")
    where = ["--model", str(other), "--storage", server.url]
    said = refused(tmp_path, *where, "--study", site.study, "--", "--fast")
    assert "the script: this copy differs from the study's" in said
    assert "arguments: none in the study, here --fast" in said
    assert 'unknown study "none"' in refused(tmp_path, *where, "--study", "none")
    assert run.end() == 0, run.stderr
    assert worker.end() == 0, worker.stderr
    assert run.events[-1]["event"] == "result"
    check(site)


@pytest.mark.long
def test_through_optuna_s_proxy(server: postgres.Server, tmp_path: Path) -> None:
    """Optuna's gRPC proxy stands between worker and database."""
    pytest.importorskip("grpc")
    database = open_database(server.url, create=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        from optuna.storages._grpc.server import make_server

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        proxy = make_server(database, "127.0.0.1", port)
    proxy.start()
    try:
        url = f"grpc://127.0.0.1:{port}"
        storage = open_storage(url, create=False)
        assert is_shared(storage)
        site = Site(tmp_path, server.url)
        run = site.run("--sequential")
        run.until(ended("default"))
        site.url = url
        worker = site.worker()
        assert run.end() == 0, run.stderr
        assert worker.end() == 0, worker.stderr
        site.url = server.url
        check(site)
    finally:
        proxy.stop(1).wait()
        database.remove_session()
        database.engine.dispose()


def test_what_can_t_be_shared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, a proxy that does not answer, an unknown part of a machine's class."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "s.db").touch()
    script = ["worker", "--model", "train.py", "--study", "s"]
    for options, said in (
        ([], "--storage is missing"),
        (["--storage", "sqlite:///s.db"], "a file can't be worked on from several processes"),
        (["--storage", "grpc://127.0.0.1:9"], "nothing answers there"),
        (["--storage", "grpc:"], "no host"),
        (["--storage", "sqlite:///s.db", "--machine-class", "colour"], 'unknown part "colour"'),
    ):
        assert main([*script, *options]) == 1
        assert said in capsys.readouterr().err
    assert main(["worker", "--storage", "sqlite:///s.db"]) == 1
    assert "nothing to work on" in capsys.readouterr().err
