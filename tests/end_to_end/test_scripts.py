"""Unmodified scripts of every kind on real TensorFlow: each is measured, in the right step."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from autotuner.options.study_spec import StepSource
from autotuner.statistics.throughput import step_percentiles_ms
from autotuner.trial.duel import DuelPlan
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import ProcessRunner
from tests.trials import QUICK, RunScript

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = pytest.mark.real_tensorflow


def measured(outcome: Outcome) -> Outcome:
    """Return the outcome if it was measured, else show why not."""
    assert outcome.status is Status.MEASURED, f"{outcome.reason}\n{outcome.log.read_bytes()!r}"
    assert outcome.complete
    return outcome


def samples_per_step(outcome: Outcome) -> set[float | None]:
    """Return the samples per step of all windows."""
    return {None if w.samples is None else w.samples / w.steps for w in outcome.windows}


@pytest.mark.parametrize(
    ("script", "source", "phase", "samples"),
    [
        ("fit_dataset.py", "keras", "fit", 50),
        ("fit_arrays.py", "keras", "fit", 64),
        ("predict_loop.py", "keras", "predict", 32),
        ("tape_loop.py", "dataset", "dataset@tape_loop.py:11", 20),
        ("function_loop.py", "function", "infer", None),
        ("model_calls.py", "function", None, 16),
        ("explicit_steps.py", "step", "step", 5),
        ("garbage_output.py", "function", None, None),
    ],
)
@pytest.mark.xdist_group("forked")
def test_the_step_is_found(
    run_forked: RunScript, script: str, source: str, phase: str | None, samples: int | None
) -> None:
    """Each kind of script is measured in its own step, with the batch size where it is known."""
    outcome = measured(run_forked(SCRIPTS / script))
    assert outcome.source == source
    assert phase in (None, outcome.step_phase)
    assert samples_per_step(outcome) == {samples}


@pytest.mark.xdist_group("forked")
def test_what_a_measurement_takes(run_forked: RunScript) -> None:
    """Step times, cores used, other load, switches and start-up are recorded, and agree."""
    outcome = measured(run_forked(SCRIPTS / "function_loop.py", configuration={"intra_op": 1}))
    cost = outcome.cost
    step_ms = step_percentiles_ms(outcome)
    assert cost.cores_used is not None
    assert cost.others_cores is not None
    assert 0 < step_ms["p50"] <= step_ms["p95"] <= step_ms["p99"]
    assert 0 < cost.cores_used <= len(os.sched_getaffinity(0)) + 0.5
    assert cost.others_cores >= 0
    rates = [w.steps / w.duration_s for w in outcome.windows if not w.warmup]
    assert 1000 / max(rates) * 0.3 < step_ms["p50"] < 1000 / min(rates) * 3
    assert cost.first_step_s is not None
    assert cost.warmup_s is not None
    assert 0 < cost.first_step_s + cost.warmup_s < outcome.elapsed_s


@pytest.mark.xdist_group("forked")
def test_an_execution_of_several_steps(run_forked: RunScript) -> None:
    """With steps_per_execution each execution counts as that many steps."""
    outcome = measured(run_forked(SCRIPTS / "steps_per_execution.py"))
    assert samples_per_step(outcome) == {10}
    assert all(window.steps % 8 == 0 for window in outcome.windows)


@pytest.mark.xdist_group("forked")
def test_the_last_batch_and_execution_are_counted_as_they_are(run_forked: RunScript) -> None:
    """125 rows in batches of 10, 8 steps an execution: 13 steps and 125 samples an epoch."""
    longer = dataclasses.replace(QUICK, measure_s=2.0)  # ten epochs, on a busy machine, too
    outcome = measured(run_forked(SCRIPTS / "counted.py", timing=longer))
    steps = sum(window.steps for window in outcome.windows)
    samples = sum(window.samples or 0 for window in outcome.windows)
    assert steps > 130
    assert samples / steps == pytest.approx(125 / 13, rel=13 / steps)


@pytest.mark.xdist_group("forked")
def test_loops_behind_a_progress_bar(run_forked: RunScript) -> None:
    """tqdm around the loops, a look at the data and a kept iterator: still the training loop."""
    outcome = measured(run_forked(SCRIPTS / "tqdm_loops.py"))
    assert (outcome.source, outcome.step_phase) == ("dataset", "dataset@tqdm_loops.py:18")
    assert samples_per_step(outcome) == {20}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("own_threads_elsewhere.py", {("TF_NUM_INTRAOP_THREADS", "1"), ("inter_op", "1")}),
        ("session_threads.py", {("intra_op", "1"), ("inter_op", "1")}),
    ],
)
@pytest.mark.xdist_group("forked")
def test_no_way_of_setting_threads_beats_the_trial(
    run_forked: RunScript, script: str, said: set[tuple[str, str]]
) -> None:
    """The script's ways after the import are reported, not obeyed."""
    outcome = measured(run_forked(SCRIPTS / script, configuration={"inter_op": 5}))
    assert outcome.facts.thread_pools["tf_Compute"] >= 5
    assert {(n.knob, n.value) for n in outcome.notices} == said


def test_variables_set_before_the_import_do_not_beat_the_defaults(run_script: RunScript) -> None:
    """With TensorFlow's defaults the script's values are reported, not obeyed, either."""
    outcome = measured(run_script(SCRIPTS / "own_threads.py"))
    assert outcome.facts.thread_pools["tf_Compute"] >= len(os.sched_getaffinity(0))
    assert {(n.knob, n.value) for n in outcome.notices} == {
        ("TF_ENABLE_ONEDNN_OPTS", "0"),
        ("intra_op", "1"),
        ("inter_op", "7"),
    }
    assert outcome.facts.onednn is True


@pytest.mark.xdist_group("forked")
def test_the_loop_s_own_time_counts(run_forked: RunScript) -> None:
    """Time that passes after an iterator is dropped belongs to the step: at most 50 a second."""
    outcome = measured(run_forked(SCRIPTS / "next_of_iter.py"))
    assert (outcome.source, samples_per_step(outcome)) == ("dataset", {10})
    assert all(window.steps <= window.duration_s / 0.02 for window in outcome.windows)


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_worker_processes(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """Worker processes made by fork work as those made by spawn do."""
    monkeypatch.setenv("START", start)
    outcome = measured(run_script(SCRIPTS / "worker_processes.py"))
    assert (outcome.source, outcome.step_phase) == ("keras", "fit")
    assert samples_per_step(outcome) == {None}


def test_arguments_and_relative_files(run_script: RunScript, tmp_path: Path) -> None:
    """Arguments, files relative to the working directory, modules beside the script: all found."""
    (tmp_path / "rows.txt").write_text("8")
    outcome = run_script(SCRIPTS / "with_arguments.py", arguments=("--width", "4", "rows.txt"))
    assert measured(outcome).step_phase == "work"


@pytest.mark.xdist_group("forked")
def test_a_phase_can_be_asked_for(run_forked: RunScript) -> None:
    """--phase takes another than the first that lasts."""
    outcome = measured(run_forked(SCRIPTS / "fit_arrays.py", phase="evaluate"))
    assert (outcome.source, outcome.step_phase) == ("keras", "evaluate")


@pytest.mark.xdist_group("forked")
def test_a_phase_that_never_comes(run_forked: RunScript) -> None:
    """A phase that the script does not have is an error of its own."""
    outcome = run_forked(SCRIPTS / "whole_process.py", phase="predict")
    assert outcome.status is Status.NO_STEPS


@pytest.mark.xdist_group("forked")
def test_a_source_can_be_forced(run_forked: RunScript) -> None:
    """--measure takes a source that another one would outrank."""
    outcome = measured(run_forked(SCRIPTS / "explicit_steps.py", source=StepSource.FUNCTION))
    assert outcome.source == "function"


@pytest.mark.xdist_group("forked")
def test_without_steps_the_process_is_the_step(run_forked: RunScript) -> None:
    """A script of plain ops is measured as a whole."""
    outcome = measured(run_forked(SCRIPTS / "whole_process.py"))
    assert (outcome.source, len(outcome.windows)) == ("process", 1)


def test_threads_take_effect_and_the_script_s_own_are_reported(run_script: RunScript) -> None:
    """The trial's threads win over the script's, and the user learns which lines to remove."""
    configuration = {"intra_op": 3, "inter_op": 5, "onednn": "1"}
    outcome = measured(run_script(SCRIPTS / "own_threads.py", configuration=configuration))
    assert outcome.facts.thread_pools["tf_Compute"] == 5
    assert outcome.facts.onednn is True
    said = {(n.knob, n.value, n.where.rsplit("/", 1)[1]) for n in outcome.notices}
    assert said == {
        ("TF_ENABLE_ONEDNN_OPTS", "0", "own_threads.py:3"),
        ("intra_op", "1", "own_threads.py:6"),
        ("inter_op", "7", "own_threads.py:7"),
    }


@pytest.mark.xdist_group("forked")
def test_finally_blocks_run(run_forked: RunScript, tmp_path: Path) -> None:
    """The script is unwound through an ``except Exception`` and its finally blocks run."""
    outcome = measured(run_forked(SCRIPTS / "finally_blocks.py"))
    assert outcome.exit_code == 0
    assert (tmp_path / "marker").read_text() == "ran"
    assert (tmp_path / "marker.atexit").read_text() == "ran"


def test_a_pair_imports_together(tmp_path: Path) -> None:
    """Both processes import at once; the second then stands until the first is warm."""
    both = TrialRequest(
        script=SCRIPTS / "function_loop.py",
        python=Path(sys.executable),
        working_directory=tmp_path,
        timing=QUICK,
    )
    folders = (tmp_path / "first", tmp_path / "second")
    plan = DuelPlan(slice_s=0.12, measure_s=0.6)
    first, second = ProcessRunner(os.environ).pair((both, both), folders, plan)
    assert second is not None
    assert [measured(one).source for one in (first, second)] == ["function", "function"]
    assert len(second.rounds) >= plan.least_rounds
    at: list[dict[str, float]] = []
    for folder in folders:
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        times = [(e.get("stage", e["event"]), e["t"]) for e in events if "t" in e]
        at.append(dict(reversed(times)))  # of each the first
    assert at[1]["hello"] < at[0]["tensorflow"]
    assert at[0]["measure"] < at[1]["warmup"]
    # what the second has waited is the first one's time
    assert second.cost.stages["start"] == second.cost.stages["import"] == 0
    assert second.cost.first_step_s is not None
    assert second.cost.first_step_s < at[1]["warmup"] - at[1]["hello"]
