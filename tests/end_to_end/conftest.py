"""Trials that a warm parent forks: TensorFlow is imported once for many tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotuner.trial.outcome import Outcome
from autotuner.trial.request import WarmStart
from autotuner.trial.runner import ProcessRunner
from tests.trials import RunScript

WARM = WarmStart(modules=("tensorflow", "keras"), start_timeout_s=120)


@pytest.fixture(scope="session")
def warm_runner() -> Iterator[ProcessRunner]:
    """Return a runner whose warm parents live as long as the session."""
    with ProcessRunner(os.environ) as runner:
        yield runner


@pytest.fixture
def run_forked(run_script: RunScript, warm_runner: ProcessRunner) -> RunScript:
    """Return ``run_script`` for forked trials, which test_warm.py shows to be like started ones.

    For tests whose subject is not how a process starts: a started one takes five seconds.
    """

    def run(script: Path | str, **fields: object) -> Outcome:
        outcome = run_script(script, runner=warm_runner, warm_start=WARM, **fields)
        assert outcome.facts.forked, outcome
        return outcome

    return run
