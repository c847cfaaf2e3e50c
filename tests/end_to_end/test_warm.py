"""Forked trials on real TensorFlow: steps, threads and settings are those of started processes."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import TrialRequest, WarmStart
from autotuner.trial.runner import ProcessRunner
from tests.commands import autotune
from tests.trials import QUICK

SCRIPTS = Path(__file__).parent / "scripts"
WARM = WarmStart(modules=("tensorflow", "keras"), start_timeout_s=60)
pytestmark = pytest.mark.real_tensorflow


def run(runner: ProcessRunner, script: Path, folder: Path, **fields: object) -> Outcome:
    request = TrialRequest(
        script=script,
        python=Path(sys.executable),
        working_directory=folder,
        timing=QUICK,
        environment=(("TF_CPP_MIN_LOG_LEVEL", "2"),),
        **fields,  # type: ignore[arg-type]
    )
    return runner.run(request, folder / "trial")


def test_forked_trials_are_like_started_ones(tmp_path: Path) -> None:
    """Every kind of step is found, with the same notices; what cannot be forked is started."""
    kinds = ("predict_loop", "own_threads")
    with ProcessRunner(os.environ) as runner:
        for kind in kinds:
            both = [
                run(runner, SCRIPTS / f"{kind}.py", tmp_path, warm_start=warm)
                for warm in (WARM, None)
            ]
            assert [one.status for one in both] == [Status.MEASURED] * 2, both[0].reason
            assert [one.facts.forked for one in both] == [True, False], both[0].cold_reason
            forked, started = both
            assert (forked.source, forked.step_phase) == (started.source, started.step_phase)
            assert {n.kind for n in forked.notices} == {n.kind for n in started.notices}
            assert forked.facts.thread_pools == started.facts.thread_pools


def test_settings_act_in_forked_trials(tmp_path: Path) -> None:
    """Threads, oneDNN, affinity: the same pools and kernels as in a started process."""
    configurations: list[Configuration] = [
        {"intra_op": 3, "inter_op": 2, "data_threads": "4", "map_parallelism": "4"},
        {"cpus": "0", "onednn": "0"},
    ]
    with ProcessRunner(os.environ) as runner:
        for configuration in configurations:
            forked, started = (
                run(
                    runner,
                    SCRIPTS / "fit_dataset.py",
                    tmp_path,
                    configuration=configuration,
                    warm_start=warm,
                )
                for warm in (WARM, None)
            )
            assert forked.facts.forked, forked.cold_reason
            assert forked.facts.thread_pools == started.facts.thread_pools, configuration
            assert forked.facts.onednn == started.facts.onednn


def test_numpy_is_as_if_just_imported(tmp_path: Path) -> None:
    """OpenBLAS has the threads it would have, and each trial draws other random numbers."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy, os, tensorflow as tf\nfrom autotuner import step\n"
        "numpy.ones((600, 600)) @ numpy.ones((600, 600))\n"
        "print('drew', numpy.random.rand(), len(os.listdir('/proc/self/task')))\n"
        "while True:\n    tf.constant(1.0) + 1\n    step()\n"
    )
    said: list[list[str]] = []
    with ProcessRunner(os.environ) as runner:
        for warm in (WARM, WARM, None):
            outcome = run(runner, script, tmp_path, warm_start=warm)
            assert outcome.status is Status.MEASURED, outcome.reason
            assert outcome.facts.forked is (warm is not None), outcome.cold_reason
            lines = outcome.log.read_text().splitlines()
            said.append(next(line.split()[1:] for line in lines if line.startswith("drew ")))
    assert len({draw for draw, _ in said}) == 3
    assert len({threads for _, threads in said}) == 1


def test_a_module_that_runs_an_op_is_not_forked(tmp_path: Path) -> None:
    """A child of such a process would hang at its first op."""
    (tmp_path / "eager.py").write_text("import tensorflow as tf\ntf.constant(1.0) + 1\n")
    warm = dataclasses.replace(WARM, modules=("eager",))
    with ProcessRunner({**os.environ, "PYTHONPATH": str(tmp_path)}) as runner:
        outcome = run(runner, SCRIPTS / "function_loop.py", tmp_path, warm_start=warm)
        assert outcome.status is Status.MEASURED, outcome.reason
        assert not outcome.facts.forked
        assert "thread" in outcome.cold_reason or "op" in outcome.cold_reason


@pytest.mark.long
def test_a_study_with_warm_start(tmp_path: Path) -> None:
    """The search is forked; the defaults, the noise check, race and final are not."""
    script = SCRIPTS / "function_loop.py"
    options = [
        "--trials",
        "5",
        "--warm",
        "on",
        "--sequential",
        "--effort",
        "fast",
        "--measure-time",
        "0.3s",
    ]
    done = autotune("run", "--model", str(script), *options, "--pairs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warm start on" in done.stderr
    report = autotune("report", "function_loop", "--format", "md", cwd=tmp_path)
    assert "Where the time went" in report.stdout
    forked = {}
    for folder in (tmp_path / ".autotune/function_loop/trials").glob("[0-9]*"):
        events = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
        hello = next(event for event in events if event["event"] == "hello")
        forked[int(folder.name)] = hello["forked"]
    assert forked[0] is False
    assert forked[max(forked)] is False
    assert sum(forked.values()) >= 3
