"""Shared fixtures: quick timings, real children, and a runner that needs no process."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from autotuner.options.study_spec import StepSource, Timing
from autotuner.trial.outcome import Outcome
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import ProcessRunner

_QUIET_LOOKS = 5
QUICK = Timing(
    window_s=0.05,
    warmup_min_s=0.1,
    warmup_max_s=1.0,
    measure_s=0.3,
    start_timeout_s=120,
    warmup_timeout_s=60,
    measure_timeout_s=60,
    grace_s=5,
)


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests run beside a tuning run of the user's, and beside each other."""
    monkeypatch.setenv("AUTOTUNE_LOCK", str(tmp_path / "autotune.lock"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


RunScript = Callable[..., Outcome]


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


def living_with(marker: str) -> list[int]:
    """Return processes that run with this marker in their environment, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("MARK") == marker:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def left_of(marker: str, within_s: float = 10.0) -> list[str]:
    """Return what else runs with this marker after a while, each process described.

    A process has no environment in the moment in which it becomes another program, so that one look
    may miss it: nothing must be seen several times in a row.
    """
    quiet_looks, deadline = 0, time.monotonic() + within_s
    while quiet_looks < _QUIET_LOOKS:
        found = [pid for pid in living_with(marker) if pid != os.getpid()]
        if found and time.monotonic() > deadline:
            return [_described(pid) for pid in found]
        quiet_looks = 0 if found else quiet_looks + 1
        time.sleep(0.02)
    return []


def _described(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return f"{pid}: {process.status()}, of {process.ppid()}, {process.cmdline()}"
    except psutil.Error as error:
        return f"{pid}: {error!r}"
