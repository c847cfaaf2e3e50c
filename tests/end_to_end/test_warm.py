"""Forked trials on real TensorFlow: steps, threads and settings are those of started processes."""

import dataclasses
import os
from pathlib import Path

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.trial.outcome import Status
from autotuner.trial.runner import ProcessRunner
from tests.commands import autotune
from tests.end_to_end.forking import WARM
from tests.trials import STEPS, RunScript, forked_trials

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = pytest.mark.real_tensorflow
forked_group = pytest.mark.xdist_group("forked")


@forked_group
@pytest.mark.parametrize(
    ("script", "configuration"),
    [
        ("predict_loop.py", {}),
        ("own_threads.py", {"cpus": "0", "onednn": "0"}),
        (
            "fit_dataset.py",
            {"intra_op": 3, "inter_op": 2, "data_threads": "4", "map_parallelism": "4"},
        ),
    ],
)
def test_forked_trials_are_like_started_ones(
    run_forked: RunScript, run_script: RunScript, script: str, configuration: Configuration
) -> None:
    """The same step and notices; threads, oneDNN, affinity: the same pools and kernels."""
    forked, started = (
        run(SCRIPTS / script, configuration=configuration, name=run.__qualname__)
        for run in (run_forked, run_script)
    )
    assert [one.status for one in (forked, started)] == [Status.MEASURED] * 2, forked.reason
    assert [one.facts.forked for one in (forked, started)] == [True, False], forked.cold_reason
    assert (forked.source, forked.step_phase) == (started.source, started.step_phase)
    assert {n.kind for n in forked.notices} == {n.kind for n in started.notices}
    assert forked.facts.thread_pools == started.facts.thread_pools
    assert forked.facts.onednn == started.facts.onednn


@forked_group
def test_numpy_is_as_if_just_imported(
    run_forked: RunScript, run_script: RunScript, tmp_path: Path
) -> None:
    """OpenBLAS has the threads it would have, and each trial draws other random numbers."""
    script = tmp_path / "draws.py"
    script.write_text(
        "import numpy, os, tensorflow as tf\nfrom autotuner import step\n"
        "numpy.ones((600, 600)) @ numpy.ones((600, 600))\n"
        "print('drew', numpy.random.rand(), len(os.listdir('/proc/self/task')))\n"
        "while True:\n    tf.constant(1.0) + 1\n    step()\n"
    )
    said: list[list[str]] = []
    for run, is_forked in ((run_forked, True), (run_forked, True), (run_script, False)):
        outcome = run(script)
        assert outcome.status is Status.MEASURED, outcome.reason
        assert outcome.facts.forked is is_forked, outcome.cold_reason
        lines = outcome.log.read_text().splitlines()
        said.append(next(line.split()[1:] for line in lines if line.startswith("drew ")))
    assert len({draw for draw, _ in said}) == 3
    assert len({threads for _, threads in said}) == 1


def test_a_module_that_runs_an_op_is_not_forked(run_script: RunScript, tmp_path: Path) -> None:
    """A child of such a process would hang at its first op."""
    (tmp_path / "eager.py").write_text("import tensorflow as tf\ntf.constant(1.0) + 1\n")
    warm = dataclasses.replace(WARM, modules=("eager",))
    with ProcessRunner({**os.environ, "PYTHONPATH": str(tmp_path)}) as runner:
        outcome = run_script(STEPS, runner=runner, warm_start=warm)
        assert outcome.status is Status.MEASURED, outcome.reason
        assert not outcome.facts.forked
        assert "thread" in outcome.cold_reason or "op" in outcome.cold_reason


@pytest.mark.long
def test_a_study_with_warm_start(tmp_path: Path) -> None:
    """The search is forked; integration/test_warm.py shows what is not, in a study with a final."""
    script = SCRIPTS / "function_loop.py"
    line = ["run", "--model", str(script), "--knobs", "intra_op,inter_op", "--trials", "4"]
    line += ["--warm", "on", "--sequential", "--effort", "fast", "--measure-time", "0.3s"]
    done = autotune(*line, "--pairs", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warm start on" in done.stderr
    assert "A new study" not in done.stderr  # nothing of Optuna's own
    forked = forked_trials(tmp_path / ".autotune/studies/function_loop/trials")
    assert [number for number, is_forked in forked.items() if not is_forked] == [0, 1]
    assert len(forked) >= 4
