"""Which knobs are live in real scripts, and why; and what holds a step up."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.liveness import Evidence, KnobState, Liveness, find_liveness
from autotuner.machine.host import inspect_machine
from autotuner.trial.outcome import Status
from autotuner.trial.probe import inspect_script
from autotuner.trial.request import TrialRequest
from tests.end_to_end.forking import ForkedCommand, ForkingRunner
from tests.trials import QUICK

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = [pytest.mark.real_tensorflow, pytest.mark.xdist_group("forked")]
LIVE, INERT = KnobState.LIVE, KnobState.INERT


Inspect = Callable[[str], tuple[Evidence, dict[str, Liveness]]]


@pytest.fixture
def inspect(tmp_path: Path, forking_runner: ForkingRunner) -> Inspect:
    """Return a function that returns what a short run of a script shows."""

    def run(script: str) -> tuple[Evidence, dict[str, Liveness]]:
        request = TrialRequest(
            script=SCRIPTS / script,
            python=Path(sys.executable),
            working_directory=tmp_path,
            timing=QUICK,
        )
        outcome, evidence = inspect_script(request, tmp_path / "inspection", forking_runner)
        assert outcome.status is Status.MEASURED, outcome.reason
        found = find_liveness(KNOBS, evidence, inspect_machine())
        return evidence, {one.knob: one for one in found}

    return run


def test_no_tf_data(inspect: Inspect) -> None:
    """Arrays: nothing of the user's to map or prefetch, but keras' own pipeline is tuned."""
    evidence, knobs = inspect("fit_arrays.py")
    assert {site.op for site in evidence.sites} == {"iterate by keras"}
    assert evidence.onednn_runtime == "threadpool"
    states = {name: knobs[name].state for name in ("map_parallelism", "prefetch_depth")}
    assert states == {"map_parallelism": INERT, "prefetch_depth": INERT}
    assert knobs["data_threads"].state is INERT
    assert knobs["data_autotune"].state is LIVE
    assert knobs["steps_per_execution"].state is LIVE
    assert knobs["jit_compile"].state is LIVE
    for name in ("omp_num_threads", "kmp_blocktime", "kmp_affinity", "mkl_num_threads"):
        assert knobs[name].state is INERT
        assert "threadpool" in knobs[name].evidence or "libmkl" in knobs[name].evidence


def test_a_dataset_given_to_keras(inspect: Inspect) -> None:
    """It is the user's own."""
    evidence, knobs = inspect("fit_dataset.py")
    assert evidence.at("iterate")
    assert knobs["prefetch_depth"].state is LIVE


def test_a_callback_on_each_batch(inspect: Inspect) -> None:
    """It would see fewer executions, so steps_per_execution is inert; it is named."""
    _, knobs = inspect("batch_callback.py")
    assert knobs["steps_per_execution"].state is INERT
    assert knobs["steps_per_execution"].reason == "Watch has hooks for each batch"
    assert knobs["steps_per_execution"].evidence == "fit at batch_callback.py:21"


def test_interleave(inspect: Inspect) -> None:
    """The call is found with its line, and so are batch and the loop; there is no map."""
    evidence, knobs = inspect("interleaved.py")
    assert knobs["interleave_parallelism"].state is LIVE
    assert knobs["interleave_parallelism"].evidence == "interleave at interleaved.py:6"
    assert knobs["batch_parallelism"].evidence == "batch at interleaved.py:9"
    assert knobs["map_parallelism"].state is INERT
    assert [site.where.rsplit("/")[-1] for site in evidence.at("iterate")] == ["interleaved.py:18"]


def test_a_map_that_calls_python(inspect: Inspect) -> None:
    """It has to stay sequential, and so the knob can do nothing; the pool neither."""
    _, knobs = inspect("python_map.py")
    assert knobs["map_parallelism"].state is INERT
    assert "EagerPyFunc" in knobs["map_parallelism"].reason
    assert knobs["map_parallelism"].evidence == "map at python_map.py:12"
    assert knobs["prefetch_depth"].state is LIVE


def test_a_loop_inside_a_function(inspect: Inspect) -> None:
    """The map is the user's and can be set; what is iterated in the graph can't be reached."""
    _, knobs = inspect("loop_in_function.py")
    assert knobs["map_parallelism"].state is LIVE
    for name in ("prefetch_depth", "data_autotune", "data_cpu_budget"):
        assert knobs[name].state is INERT
        assert "inside a tf.function" in knobs[name].reason
        assert knobs[name].evidence == "iterate in graph at loop_in_function.py:11"


WAITS = """
import time
import tensorflow as tf

def slow(i):
    def wait(k):
        time.sleep(0.004)
        return tf.ones((8,))
    x = tf.ensure_shape(tf.py_function(wait, [i], tf.float32), (8,))
    return x, tf.cast(i % 2, tf.float32)

data = tf.data.Dataset.range(100_000).map(slow).batch(8)
model = tf.keras.Sequential([tf.keras.layers.Input((8,)), tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(data, epochs=100, verbose=0)
"""
COMPUTES = """
import tensorflow as tf

data = tf.data.Dataset.from_tensors((tf.ones((1024,)), 1.0)).repeat(10_000_000).batch(64)
inputs = tf.keras.layers.Input((1024,))
convolved = tf.keras.layers.Reshape((32, 32, 1))(inputs)
for _ in range(3):
    convolved = tf.keras.layers.Conv2D(24, 3, padding="same", activation="relu")(convolved)
outputs = tf.keras.layers.Dense(1)(tf.keras.layers.GlobalAveragePooling2D()(convolved))
model = tf.keras.Model(inputs, outputs)
model.compile("sgd", "mse")
model.fit(data, epochs=2, steps_per_epoch=100, verbose=0)
"""
TINY = """
import numpy as np
import tensorflow as tf

model = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(4)])
model.add(tf.keras.layers.Dense(1))
model.compile("adam", "mse")
x = np.ones((6400, 4), "float32")
model.fit(x, x[:, :1], batch_size=16, epochs=1000, verbose=0)
"""


@pytest.mark.parametrize(
    ("name", "body", "options"),
    [
        ("input", WAITS, ["--sequential"]),  # so clear that turns are not needed
        ("compute", COMPUTES, []),
        ("overhead", TINY, []),
    ],
    ids=["input", "compute", "overhead"],
)
def test_the_bottleneck(
    tmp_path: Path, autotune_forked: ForkedCommand, name: str, body: str, options: list[str]
) -> None:
    """The diagnosis tells scripts that wait, compute, or do next to nothing from each other."""
    script = tmp_path / f"{name}_bound.py"
    script.write_text(body)
    line = ["doctor", "--model", script.name, "--json", "--measure-time", "0.3s", *options]
    done = autotune_forked(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "A new study" not in done.stderr  # nothing of Optuna's own
    document = json.loads(done.stdout)
    diagnosis = document["diagnosis"]
    assert diagnosis["bottleneck"] == name, diagnosis
    parts = diagnosis["waits"], diagnosis["overhead"], diagnosis["compute"]
    assert sum(parts) == pytest.approx(1.0)
    if name == "input":
        assert diagnosis["sentence"].endswith("map at input_bound.py:12 is sequential")
    assert document["probe_s"] > 0
    assert [one["knob"] for one in document["liveness"]] == list(KNOBS)
