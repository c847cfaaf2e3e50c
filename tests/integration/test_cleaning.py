"""``autotune clean``, ``compare-studies``, ``list`` and ``show``: reading and removing studies."""

import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from autotuner.cli.main import main
from autotuner.study.artifacts import artifact_store, keep_study_files
from autotuner.study.elapsed import begin_run
from autotuner.study.folders import claim_folder
from autotuner.study.memory import FACTS, SPEC, Memory
from autotuner.study.queue_store import QueueStore
from autotuner.study.record import Role, Side
from autotuner.study.workers import Workers
from autotuner.testing.simulated import SimulatedRunner
from tests.fakes import Bench, run_all, threads_matter

Run = Callable[..., str]


# one process runs them all, so that the study is made once
pytestmark = pytest.mark.xdist_group("cleaning")


def opened(folder: Path) -> Bench:
    bench = Bench(folder)
    bench.on_disk = bench.with_pages = True
    return bench


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished study with its files; a copy is beside it."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    folder.mkdir()
    bench = opened(folder)
    claim_folder(folder / ".autotune", "s", "studies.db")
    run_all(bench.session(SimulatedRunner(threads_matter, log="hello\n"), trials=10))
    bench.close()
    shutil.copytree(folder, folder.with_name("copy"))
    return folder


@pytest.fixture
def bench(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Return the finished study as it was made, under the working directory, with its files."""
    shutil.rmtree(finished)
    shutil.copytree(finished.with_name("copy"), finished)  # a study knows its folder by its path
    monkeypatch.chdir(finished)
    monkeypatch.delenv("COLUMNS", raising=False)
    bench = opened(finished)
    bench.session(SimulatedRunner(threads_matter), trials=10)
    yield bench
    bench.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line and returns what it prints."""

    def run(*argv: str, code: int = 0) -> str:
        assert main(argv) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


def files(folder: Path) -> set[Path]:
    """Return all files but the database."""
    return {p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("studies.db")}


def test_without_yes_nothing_is_removed(bench: Bench, run: Run) -> None:
    """The command lists what it would remove, and its size."""
    before = files(bench.folder)
    output = run("clean", "s")
    assert re.search(r"^s +\d+ +\d+\.\d MiB +20\d\d-", output, re.MULTILINE)
    assert "nothing was removed; with --yes 1 of these" in output
    assert files(bench.folder) == before
    assert optuna.get_all_study_names(bench.storage) == ["s"]
    assert "nothing to remove: name studies" in run("clean")
    assert "nothing to remove" in run("clean", "--older-than", "1d")


def test_a_study_is_removed_with_all_it_has(bench: Bench, run: Run) -> None:
    """Trials, folder and files in the store are removed; files of other studies stay."""
    other = bench.folder / "note.txt"
    other.write_text("mine")
    store = artifact_store(bench.folder / ".autotune")
    stranger = optuna.create_study(storage=bench.storage, study_name="stranger")
    keep_study_files(store, stranger, [other])
    assert len(files(bench.folder / ".autotune/artifacts")) > 10
    assert "removed 1," in run("clean", "s", "--yes")
    assert optuna.get_all_study_names(bench.storage) == ["stranger"]
    assert not (bench.folder / ".autotune/studies/s").exists()
    assert len(files(bench.folder / ".autotune/artifacts")) == 1
    assert "unknown study" in run("clean", "s", code=1)
    assert "was not made by autotune" in run("clean", "stranger", code=1)


def test_a_study_of_another_version(bench: Bench, run: Run) -> None:
    """Every command says what it is, and it can be removed; nothing else goes with it."""
    older = optuna.create_study(storage=bench.storage, study_name="older")
    older.set_user_attr("spec", {"schema": 3, "value": {}})
    claim_folder(bench.folder / ".autotune", "gone", "studies.db")
    made = 'study "older" was made by another version of autotune'
    assert re.search(r"older.*made by another version", run("list"))
    for line in (("show", "older"), ("export", "older"), ("run", "--study", "older")):
        assert made in run(*line, code=1)
    assert "removed 1," in run("clean", "older", "--yes")
    assert optuna.get_all_study_names(bench.storage) == ["s"]
    assert (bench.folder / ".autotune/studies/gone").exists()


def test_old_ones_and_leftovers(bench: Bench, run: Run) -> None:
    """Old studies and folders without a study are removed; studies of other programs stay."""
    optuna.create_study(storage=bench.storage, study_name="stranger")
    claim_folder(bench.folder / ".autotune", "gone", "studies.db")
    claim_folder(bench.folder / ".autotune", "elsewhere", "postgresql://host/db")
    output = run("clean", "--older-than", "1ms", "--yes")
    assert "removed 2," in output
    assert "gone, gone" in output
    assert optuna.get_all_study_names(bench.storage) == ["stranger"]
    assert (bench.folder / ".autotune/studies/elsewhere").exists()
    assert not (bench.folder / ".autotune/studies/gone").exists()


def test_a_copy_is_cleaned_without_the_original(
    bench: Bench, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database names no folder: each ``.autotune`` has its own."""
    copy = tmp_path / "copy"
    shutil.copytree(bench.folder, copy)
    before = files(bench.folder)
    monkeypatch.chdir(copy)
    assert "removed 1," in run("clean", "s", "--yes")
    assert not (copy / ".autotune/studies/s").exists()
    assert files(bench.folder) == before


def test_a_name_never_removes_more_than_its_study(bench: Bench, run: Run) -> None:
    """Nor does a study that another program has put into the database under such a name."""
    home = bench.folder / ".autotune"
    names = ("", ".", "..", "artifacts", "studies", "studies.db", "../.autotune", "/", "versus")
    kept = files(bench.folder)
    for name in names:
        if name:
            optuna.create_study(storage=bench.storage, study_name=name)
        run("clean", name, "--yes", code=1)
    assert files(bench.folder) == kept
    assert (home / "studies.db").is_file()
    assert set(optuna.get_all_study_names(bench.storage)) == {"s", *names} - {""}


def test_a_linked_folder_of_studies(
    bench: Bench, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the link leads to the original's files, which stay."""
    studies = bench.folder / ".autotune/studies"
    studies.rename(tmp_path / "elsewhere")
    studies.symlink_to(tmp_path / "elsewhere")
    before = files(tmp_path / "elsewhere")
    shutil.copytree(bench.folder, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    assert "removed 1," in run("clean", "s", "--yes")
    assert files(tmp_path / "elsewhere") == before


def test_a_running_study_stays(bench: Bench, run: Run) -> None:
    """A study of a living process, here this one, is not removed."""
    session = bench.session(SimulatedRunner(threads_matter))
    session.trials.add(Side(role=Role.SEARCH, configuration={}), None, fixed={})
    output = run("clean", "s", "--yes")
    assert "running: stays" in output
    assert "removed 0," in output
    assert optuna.get_all_study_names(bench.storage) == ["s"]


def test_a_study_between_trials_stays(bench: Bench, run: Run) -> None:
    """It has no trial that runs, or none at all: its process has signed it, and it has begun."""
    begun = optuna.create_study(storage=bench.storage, study_name="begun")
    memory = Memory(begun)
    memory.write(SPEC, bench.session(SimulatedRunner(threads_matter)).target.spec)
    begin_run(begun, memory, anew=True)
    with Workers(begun, shared=False, machine="here"):
        assert "running: stays" in run("clean", "begun", "--yes")
    assert "nothing to remove" in run("clean", "--older-than", "1h", "--yes")
    assert "removed 1," in run("clean", "begun", "--yes")


def test_ages_and_names(bench: Bench, run: Run) -> None:
    """A name with an age is removed if it is that old; an age needs a unit."""
    assert "nothing to remove" in run("clean", "s", "--older-than", "30d", "--yes")
    assert "write 30d" in run("clean", "s", "--older-than", "30", "--yes", code=1)
    assert "or 30d" in run("clean", "s", "--older-than", "1w", "--yes", code=1)
    assert optuna.get_all_study_names(bench.storage) == ["s"]
    assert "removed 1," in run("clean", "s", "--older-than", "1ms", "--yes")


def test_the_same_file_by_another_url(bench: Bench, run: Run) -> None:
    """A study's folder is found however the database is named: a service gives an absolute URL."""
    file = bench.folder / ".autotune/studies.db"
    for url in (f"sqlite:///{file}", "sqlite:///.autotune/studies.db"):
        output = run("clean", "s", "--storage", url)
        assert ".autotune/studies/s" in output
    run("report", "s", "--storage", f"sqlite:///{file}")
    assert [one.name for one in (bench.folder / ".autotune/studies").iterdir()] == ["s"]


def test_names_that_look_like_options(bench: Bench, run: Run) -> None:
    """They follow two dashes."""
    optuna.create_study(storage=bench.storage, study_name="--yes")
    assert 'study "--yes" was not made' in run("clean", "--", "--yes", code=1)
    assert "known: --yes, s" in run("show", "--", "-x", code=1)


def test_the_queue_is_not_removed(bench: Bench, run: Run) -> None:
    """Its name is in no hint, and leads to the command that cleans it."""
    QueueStore(bench.storage).add({})
    assert "autotune clean --jobs" in run("clean", "autotune-queue-0", "--yes", code=1)
    assert "autotune-queue" not in run("show", "x", code=1)


def test_two_studies_side_by_side(bench: Bench, run: Run) -> None:
    """Their facts in two columns; an asterisk where they differ."""
    session = bench.session(SimulatedRunner(threads_matter))
    copy = optuna.create_study(storage=bench.storage, study_name="t", direction="maximize")
    for key, value in bench.study.user_attrs.items():
        copy.set_user_attr(key, value)
    memory = Memory(copy)
    memory.write(FACTS, dataclasses.replace(session.facts, base=50.0))
    copy.add_trials(bench.study.get_trials())
    output = run("compare-studies", "s", "t")
    assert re.search(r"^ +verdict +([A-Z ]+?) +\1 *$", output, re.MULTILINE)
    assert re.search(r"^\* +defaults, steps/s +\d+\.?\d* +50", output, re.MULTILINE)
    assert "\x1b[" not in output
    assert "unknown study" in run("compare-studies", "s", "x", code=1)


def test_reports(bench: Bench, run: Run) -> None:
    """All formats; the page is written beside the study's other files unless a path is given."""
    (bench.folder / ".autotune/studies/s").mkdir(exist_ok=True)
    path = run("report", "s").strip()
    assert Path(path) == bench.folder / ".autotune/studies/s/report.html"
    assert Path(path).read_text().startswith("<!doctype html>")
    assert run("report", "s", "--format", "md").startswith("# s\n\n## Verdict\n\n**FASTER: ")
    assert '"trials": [' in run("report", "s", "--format", "json")
    run("report", "s", "--output", "here.html")
    assert (bench.folder / "here.html").exists()
    assert "unknown format" in run("report", "s", "--format", "pdf", code=1)
    assert "can't be written" in run("report", "s", "--output", "no/where.html", code=1)


def test_rows_are_whole_in_a_pipe_and_fit_a_terminal(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe a trial is one line, for grep; COLUMNS narrows that."""
    rows = [line for line in run("show", "s").splitlines() if re.match(r" *\d+  ", line)]
    assert len(rows) == len(bench.study.get_trials())
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, run("show", "s").splitlines()[-30:])) <= 60
