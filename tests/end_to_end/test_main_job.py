"""The main job from the command line on real TensorFlow: studies of real scripts."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import Timing
from autotuner.options.workloads import load_workload
from autotuner.trial.outcome import Status
from autotuner.trial.request import RecordValues
from autotuner.verdict.numerics import judge_numerics
from tests.commands import autotune
from tests.end_to_end.forking import ForkedCommand
from tests.end_to_end.kinds import KINDS
from tests.trials import QUICK as QUICK_TRIAL
from tests.trials import RunScript

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = pytest.mark.real_tensorflow
QUICK = ["--measure-time", "0.3s", "--effort", "fast", "--pairs", "0"]


@pytest.mark.xdist_group("forked")
def test_a_study_of_a_script_with_threads_of_its_own(
    tmp_path: Path, autotune_forked: ForkedCommand
) -> None:
    """The table, the files, and the knobs that can act; tests/integration/test_run.py goes on."""
    script = SCRIPTS / "own_threads.py"
    line = ["run", "--model", str(script), "--trials", "2", "--sequential", *QUICK]
    done = autotune_forked(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("TensorFlow's defaults", "vendor's recipe", "best.env", "best.py", "best.json"):
        assert part in done.stdout
    assert "own_threads.py:6: the script calls tf.config.threading.set_intra_op" in done.stderr
    document = json.loads((tmp_path / ".autotune/studies/own_threads/best.json").read_text())
    assert set(document["configuration"]) == {"intra_op", "inter_op", "onednn"}

    events = (tmp_path / ".autotune/studies/own_threads/trials/0000/events.jsonl").read_text()
    hello = next(e for e in map(json.loads, events.splitlines()) if e["event"] == "hello")
    assert hello["executable"] == sys.executable  # as there is no --python

    shown = autotune_forked("show", "own_threads", cwd=tmp_path)
    assert shown.returncode == 0
    assert "a step is: function infer" in shown.stdout


# test_scripts.py measures every kind; other commands below run keras' loops and tf.functions
@pytest.mark.parametrize(("script", "source"), [KINDS[3], KINDS[6]])
@pytest.mark.xdist_group("forked")
def test_loops_of_the_user_s_own(
    tmp_path: Path, autotune_forked: ForkedCommand, script: str, source: str
) -> None:
    """A loop over a dataset and marked steps, unmodified, from the command line."""
    line = ["run", "--model", str(SCRIPTS / script), "--trials", "1", *QUICK]
    done = autotune_forked(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"a step is: {source}" in done.stderr


OTHERS = [Path(p) for p in os.environ.get("AUTOTUNE_TEST_PYTHONS", "").split(":") if p]


@pytest.mark.skipif(not OTHERS, reason="AUTOTUNE_TEST_PYTHONS names no other interpreters")
@pytest.mark.parametrize("python", OTHERS or [None], ids=str)
@pytest.mark.parametrize(("script", "source"), KINDS)
def test_other_interpreters(tmp_path: Path, python: Path, script: str, source: str) -> None:
    """The same in interpreters with other versions of Python, TensorFlow and keras."""
    line = ["run", "--model", str(SCRIPTS / script), "--python", str(python), "--trials", "3"]
    done = autotune(*line, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"a step is: {source}" in done.stderr
    assert "crashed" not in done.stderr, done.stderr


@pytest.mark.xdist_group("forked")
def test_reference_workloads_are_measured(run_forked: RunScript) -> None:
    """Each reference workload runs with the defaults and is measured in its own step."""
    steps = {
        "mlp_train": ("keras", "fit"),
        "cnn_train": ("keras", "fit"),
        "image_input": ("keras", "fit"),
        "wide_branches": ("function", "infer"),
        "transformer_infer": ("keras", "predict"),
    }
    for name, step in steps.items():
        model = load_workload(name).model
        assert model is not None
        outcome = run_forked(model, name=name)
        assert outcome.status is Status.MEASURED, outcome.reason
        assert (outcome.source, outcome.step_phase) == step


@pytest.mark.xdist_group("forked")
def test_a_script_of_two_steps_is_timed_as_a_whole(
    tmp_path: Path, autotune_forked: ForkedCommand
) -> None:
    """There is no loop to measure; the study works, and its notice names what is measured."""
    line = ["run", "--model", str(SCRIPTS / "two_steps.py"), "--trials", "2", *QUICK]
    done = autotune_forked(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "each run is timed as a whole" in done.stderr
    assert "crashed" not in done.stderr


@pytest.mark.xdist_group("forked")
def test_a_cache_is_measured_when_it_is_full(run_forked: RunScript) -> None:
    """The first epoch fills the cache and is several times as slow: it counts as warm-up."""
    patient = dataclasses.replace(QUICK_TRIAL, warmup_max_s=60)
    outcome = run_forked(SCRIPTS / "cached.py", timing=patient)
    assert outcome.status is Status.MEASURED, outcome.reason
    assert "the first pass fills this cache; it counts as warm-up" in {
        notice.text for notice in outcome.notices
    }
    warm = sum(window.steps for window in outcome.windows if window.warmup)
    assert warm >= 240  # the first epoch has 250 steps


@pytest.mark.xdist_group("forked")
def test_results_that_change_are_seen(run_forked: RunScript) -> None:
    """The guard on real TensorFlow: rounding passes, another loss does not."""
    values = []
    tuned: Configuration = {"intra_op": 1, "onednn": "0"}
    sides: list[tuple[str, Configuration]] = [("a", {}), ("b", {}), ("c", tuned)]
    for name, configuration in sides:
        outcome = run_forked(
            SCRIPTS / "fit_arrays.py",
            name=name,
            timing=Timing(),
            configuration=configuration,
            record_values=RecordValues(seed=7),
        )
        assert outcome.status is Status.MEASURED, outcome.reason
        assert len(outcome.values) == 5
        values.append(outcome.values)
    found = judge_numerics(*values, changing=["onednn"])
    assert found.differs is False, found.text
    assert found.own == 0
    changed = [[2 * number for number in step] for step in values[2]]
    assert judge_numerics(values[0], values[1], changed, changing=["onednn"]).differs is True
