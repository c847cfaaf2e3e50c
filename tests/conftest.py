"""Shared fixtures: quick timings, real children, and a runner that needs no process."""

import os
import signal
import sys
import uuid
from pathlib import Path

import pytest

from autotuner.options.study_spec import StepSource, Timing
from autotuner.trial.outcome import Outcome
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import ProcessRunner
from tests.forked import close_parent
from tests.trials import QUICK, RunScript


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests run beside a tuning run of the user's, and beside each other."""
    monkeypatch.setenv("AUTOTUNE_LOCK", str(tmp_path / "autotune.lock"))


def pytest_configure() -> None:
    """Obey Ctrl-C: a test run in the background of a shell ignores it, and so would a service."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish() -> None:
    """End the process that commands were forked from."""
    close_parent()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest tests and groups, so that no worker is left alone with one."""
    markers = ("long", "xdist_group")
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in markers])
    if pytest.version_tuple < (9, 2) or not config.getoption("loadgroup", default=False):
        return
    # pytest-xdist 3.8 appends the group to an attribute that pytest 9.2 no longer reads, so that
    # the tests of a group went to all workers, and each of these made the group's fixtures
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        if mark is not None and not item.nodeid.endswith(suffix := f"@{mark.args[0]}"):
            item._id = item.id.parse(item.nodeid + suffix)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """Mark the environment of everything that the test starts."""
    text = uuid.uuid4().hex
    monkeypatch.setenv("MARK", text)
    return text


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """Return a function that runs a script as one trial, by default in this interpreter."""

    def run(
        script: Path | str,
        *,
        timing: Timing = QUICK,
        source: StepSource = StepSource.AUTO,
        runner: ProcessRunner | None = None,
        python: Path = Path(sys.executable),
        name: str = "trial",
        **fields: object,
    ) -> Outcome:
        path = tmp_path / "script.py" if isinstance(script, str) else script
        if isinstance(script, str):
            path.write_text(script)
        request = TrialRequest(
            script=path,
            python=python,
            working_directory=tmp_path,
            source=source,
            timing=timing,
            **fields,  # type: ignore[arg-type]
        )
        return (runner or ProcessRunner(os.environ)).run(request, tmp_path / name)

    return run
