"""Fixtures that fork processes from warm parents, which all tests of a worker share.

They are for tests in ``xdist_group("forked")``: each worker with such a test has its own parents.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from autotuner.cli import doctor, run_study
from autotuner.cli.main import main
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.outcome import Outcome
from autotuner.trial.runner import ProcessRunner
from tests.end_to_end.forking import WARM, ForkedCommand, ForkingRunner
from tests.trials import RunScript


@pytest.fixture(scope="session")
def warm_runner() -> Iterator[ProcessRunner]:
    """Return a runner whose warm parents live as long as the session."""
    with ProcessRunner(os.environ) as runner:
        yield runner


@pytest.fixture
def forking_runner(warm_runner: ProcessRunner) -> Iterator[ForkingRunner]:
    """Return a runner that forks every process, and check that it did."""
    runner = ForkingRunner(warm_runner)
    yield runner
    assert runner.not_forked == []


@pytest.fixture
def run_forked(run_script: RunScript, warm_runner: ProcessRunner) -> RunScript:
    """Return ``run_script`` for forked trials."""

    def run(script: Path | str, **fields: object) -> Outcome:
        outcome = run_script(script, runner=warm_runner, warm_start=WARM, **fields)
        assert outcome.facts.forked, outcome
        return outcome

    return run


@pytest.fixture
def autotune_forked(
    forking_runner: ForkingRunner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> ForkedCommand:
    """Return ``autotune`` as a function: ``run`` and ``doctor`` fork what they would start.

    For tests of what these commands make of real scripts; test_warm.py and test_readme.py have
    the commands themselves, with the processes that they start.
    """

    def runner_for(
        base_environment: Mapping[str, str], *, confinement: Confinement = UNCONFINED
    ) -> ForkingRunner:
        assert confinement == UNCONFINED
        return forking_runner

    def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setenv("COLUMNS", "120")
            for module in (run_study, doctor):
                patch.setattr(module, "ProcessRunner", runner_for)
            code = main(arguments)
        output = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, output.out, output.err)

    return run
