"""The tf.data knobs on real datasets: what the graph holds, what stays sequential, what order."""

import json
from pathlib import Path
from typing import Any

import pytest

from autotuner.trial.outcome import Outcome, Status
from tests.end_to_end.graph import GRAPH
from tests.trials import RunScript

# one group, so that one process imports TensorFlow for all of them
pytestmark = [pytest.mark.real_tensorflow, pytest.mark.xdist_group("forked")]


def look(run_forked: RunScript, tmp_path: Path, body: str, **knobs: str) -> tuple[Outcome, Any]:
    """Run a script that ends by itself; return the outcome and what it saw of its datasets."""
    outcome = run_forked(GRAPH + body, configuration=knobs)
    assert outcome.status is Status.MEASURED, f"{outcome.reason}\n{outcome.log.read_text()}"
    return outcome, json.loads((tmp_path / "seen.json").read_text())


PLAIN = """
data = tf.data.Dataset.range(64).map(lambda x: x * 2).batch(4)
values = [batch.numpy().tolist() for batch in data]
end(values=values)
"""
EXPECTED = [[2 * (i + j) for j in range(4)] for i in range(0, 64, 4)]


def test_nothing_is_touched_by_default(run_forked: RunScript, tmp_path: Path) -> None:
    """Without a setting the graph is the script's own."""
    _, seen = look(run_forked, tmp_path, PLAIN)
    graph = seen["graphs"][0]
    assert "MapDataset" in graph["ops"]
    assert "prefetch" not in graph
    assert graph["pool"] is None


@pytest.mark.parametrize(("value", "calls"), [("4", 4), ("AUTOTUNE", -1)])
def test_map_prefetch_and_pool_reach_the_graph(
    run_forked: RunScript, tmp_path: Path, value: str, calls: int
) -> None:
    """A script without any of them gets them, and its elements stay in order."""
    _, seen = look(
        run_forked,
        tmp_path,
        PLAIN,
        map_parallelism=value,
        prefetch_depth=value,
        data_threads="3",
    )
    graph = seen["graphs"][0]
    assert (graph["map"], graph["prefetch"], graph["pool"]) == ([calls], [calls], 3)
    assert seen["values"] == EXPECTED


def test_sequential_means_sequential(run_forked: RunScript, tmp_path: Path) -> None:
    """TensorFlow's own rewriting of stateless maps to AUTOTUNE is switched off as well."""
    body = PLAIN.replace("x * 2)", "x * 2, num_parallel_calls=tf.data.AUTOTUNE)")
    _, seen = look(run_forked, tmp_path, body, map_parallelism="sequential")
    graph = seen["graphs"][0]
    assert "map" not in graph
    assert graph["rewrite"] is False


def test_the_last_prefetch_is_replaced(run_forked: RunScript, tmp_path: Path) -> None:
    """A prefetch at the end, behind repeat, take and options, changes its depth; order stays."""
    body = """
options = tf.data.Options()
options.deterministic = True
data = tf.data.Dataset.range(64).map(lambda x: x * 2).batch(4).prefetch(7)
data = data.repeat(2).with_options(options).take(16)
end(values=[batch.numpy().tolist() for batch in data])
"""
    _, seen = look(run_forked, tmp_path, body, prefetch_depth="2")
    assert seen["graphs"][0]["prefetch"] == [2]
    assert seen["values"] == EXPECTED
    _, seen = look(run_forked, tmp_path, body, prefetch_depth="0")
    assert "prefetch" not in seen["graphs"][0]
    assert seen["graphs"][0]["inject"] is False
    assert seen["values"] == EXPECTED


@pytest.mark.parametrize(
    ("function", "word"),
    [
        ("lambda x: tf.py_function(lambda v: v, [x], tf.int64)", "EagerPyFunc"),
        ("lambda x: tf.numpy_function(lambda v: v, [x], tf.int64)", "PyFunc"),
        ("lambda x: x + variable.assign_add(1)", "Variable"),
        ("lambda x: x + table.lookup(x)", "LookupTable"),
        ("lambda x: tf.cond(x > 0, lambda: x + variable.assign_add(1), lambda: x)", "Variable"),
    ],
)
def test_stateful_maps_stay_sequential(
    run_forked: RunScript, tmp_path: Path, function: str, word: str
) -> None:
    """A stateful map that its author left sequential stays so, and the user is told why."""
    body = f"""
variable = tf.Variable(0, dtype=tf.int64)
keys = tf.range(64, dtype=tf.int64)
table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys), 0)
data = tf.data.Dataset.range(64).map({function})
end(values=[int(x) for x in data])
"""
    outcome, seen = look(run_forked, tmp_path, body, map_parallelism="4")
    assert "map" not in seen["graphs"][0]
    notices = [notice for notice in outcome.notices if notice.kind == "map_kept"]
    assert len(notices) == 1
    assert word in notices[0].text
    assert "script.py:" in notices[0].where


def test_a_stateful_map_that_its_author_made_parallel_may_change(
    run_forked: RunScript, tmp_path: Path
) -> None:
    """Where the author chose parallelism, another number is as good."""
    body = """
f = lambda x: tf.numpy_function(lambda v: v, [x], tf.int64)
end(values=[int(x) for x in tf.data.Dataset.range(64).map(f, 2)])
"""
    _, seen = look(run_forked, tmp_path, body, map_parallelism="4")
    assert seen["graphs"][0]["map"] == [4]
    assert seen["values"] == list(range(64))


AUGMENT = """
data = tf.data.Dataset.range(64).map(lambda x: (x, tf.random.uniform([])))
end(values=[int(x) for x, _ in data])
"""


def test_random_maps_become_parallel_and_say_so(run_forked: RunScript, tmp_path: Path) -> None:
    """Augmentation may run in parallel; elements stay in order, draws may move, which is said."""
    outcome, seen = look(run_forked, tmp_path, AUGMENT, map_parallelism="4")
    assert seen["graphs"][0]["map"] == [4]
    assert seen["values"] == list(range(64))
    assert [notice.kind for notice in outcome.notices] == ["map_randomness"]


def test_op_determinism_is_respected(run_forked: RunScript, tmp_path: Path) -> None:
    """Where the script enables op determinism a random map stays sequential."""
    body = (
        "tf.keras.utils.set_random_seed(1)\ntf.config.experimental.enable_op_determinism()\n"
        + AUGMENT
    )
    outcome, seen = look(run_forked, tmp_path, body, map_parallelism="4")
    assert "map" not in seen["graphs"][0]
    assert [notice.kind for notice in outcome.notices] == ["map_kept"]


def test_order_stays_though_the_script_allows_disorder(
    run_forked: RunScript, tmp_path: Path
) -> None:
    """A map made parallel by us is deterministic even under ``deterministic=False``."""
    body = """
import time
options = tf.data.Options()
options.deterministic = False
def slow_first(x):
    work = tf.reduce_sum(tf.random.uniform([tf.where(x % 8 == 0, 300_000, 1)]))
    return x + tf.cast(work < 0, tf.int64)
data = tf.data.Dataset.range(64).map(slow_first).with_options(options)
end(values=[int(x) for x in data])
"""
    _, seen = look(run_forked, tmp_path, body, map_parallelism="8", data_threads="8")
    assert seen["graphs"][0]["map"] == [8]
    assert seen["values"] == list(range(64))


def test_keras_reads_the_changed_dataset_and_its_own_stay(
    run_forked: RunScript, tmp_path: Path
) -> None:
    """fit on a dataset gets the settings, fit on arrays does not."""
    body = """
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((64, 4), "float32")
model.fit(x, x[:, :1], epochs=2, verbose=0)
arrays = list(seen)
seen.clear()
data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).map(lambda a, b: (a * 2, b)).batch(8)
model.fit(data, epochs=2, verbose=0)
end(arrays=arrays)
"""
    _, seen = look(
        run_forked, tmp_path, body, map_parallelism="4", prefetch_depth="2", data_threads="3"
    )
    assert seen["arrays"]
    assert all(graph["pool"] is None for graph in seen["arrays"])
    assert seen["graphs"]
    assert all(
        (graph["map"], graph["prefetch"], graph["pool"]) == ([4], [2], 3)
        for graph in seen["graphs"]
    )


INTERLEAVE = """
def slow_first(k):
    def wait(i):
        work = tf.reduce_sum(tf.cast(tf.range(tf.where(k % 3 == 0, 300_000, 1)), tf.int64))
        return k * 1000 + i + tf.cast(work < 0, tf.int64)
    return tf.data.Dataset.range(11).map(wait)
options = tf.data.Options()
options.deterministic = False
data = tf.data.Dataset.range(20).interleave(slow_first{arguments}).with_options(options)
end(values=[int(x) for x in data])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        ", cycle_length=3, block_length=2",
        ", cycle_length=3, num_parallel_calls=2, deterministic=True",
        ", num_parallel_calls=tf.data.AUTOTUNE, deterministic=True",
    ],
)
def test_interleave_keeps_its_cycle_and_its_order(
    run_forked: RunScript, tmp_path: Path, arguments: str
) -> None:
    """Whatever its parallelism: elements come in the order that the script's own call has."""
    body = INTERLEAVE.format(arguments=arguments)
    _, own = look(run_forked, tmp_path, body)
    assert sorted(own["values"]) == [k * 1000 + i for k in range(20) for i in range(11)]
    cycle = own["graphs"][0]["cycle"]
    for value, calls in (("8", 8), ("AUTOTUNE", -1), ("sequential", None)):
        _, seen = look(run_forked, tmp_path, body, interleave_parallelism=value)
        graph = seen["graphs"][0]
        assert graph["cycle"] == cycle or cycle == -1 < graph["cycle"], value
        bound = graph["cycle"] if value == "8" else calls  # TensorFlow refuses more calls
        assert graph.get("interleave") == bound, value
        assert seen["values"] == own["values"], value


def test_a_stateful_interleave_stays_sequential(run_forked: RunScript, tmp_path: Path) -> None:
    """As a map would; and the user is told which stage."""
    body = """
def numbers(k):
    return tf.data.Dataset.from_tensors(tf.py_function(lambda v: v, [k], tf.int64))
end(values=[int(x) for x in tf.data.Dataset.range(8).interleave(numbers)])
"""
    outcome, seen = look(run_forked, tmp_path, body, interleave_parallelism="4")
    assert "interleave" not in seen["graphs"][0]
    assert seen["values"] == list(range(8))
    (notice,) = [notice for notice in outcome.notices if notice.kind == "map_kept"]
    assert notice.text == "this interleave stays sequential: its function is stateful (EagerPyFunc)"


def test_batch_and_the_options_reach_the_graph(run_forked: RunScript, tmp_path: Path) -> None:
    """Batches hold the same elements in the same order."""
    _, seen = look(
        run_forked,
        tmp_path,
        PLAIN,
        batch_parallelism="3",
        data_autotune="0",
        data_cpu_budget="2",
    )
    graph = seen["graphs"][0]
    assert (graph["batch"], graph["autotune"], graph["budget"]) == (3, False, 2)
    assert seen["values"] == EXPECTED


ARRAYS = """
class Heard(tf.keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.sizes, self.batches, self.epochs = [], 0, 0
    def on_predict_batch_end(self, batch, logs=None):
        self.sizes.append(len(logs["outputs"]))
    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
class Counts(Heard):
    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((64, 4), "float32")
heard = {kind}()
model.fit(x, x[:, :1], batch_size=4, epochs=2, verbose=0, callbacks=[heard])
jit, steps = model.jit_compile is True, int(model.steps_per_execution)
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
predicted = model.predict(x, 64, 0, callbacks=[heard])
assert len(model.predict(x=x, verbose=0)) == 64
assert len(model.predict(tf.data.Dataset.from_tensor_slices(x).batch(8), verbose=0)) == 64
end(batches=heard.batches, epochs=heard.epochs, sizes=heard.sizes, jit=jit, steps=steps,
    predicted=len(predicted), trained=int(heard.model.count_params()))
"""


def test_settings_of_keras(run_forked: RunScript, tmp_path: Path) -> None:
    """fit runs several steps at a time by XLA, predict takes other batches, tf.data's options too.

    Arrays are keras' own pipeline: it gets the options, and nothing else.
    """
    _, seen = look(
        run_forked,
        tmp_path,
        ARRAYS.format(kind="Heard"),
        steps_per_execution="4",
        jit_compile="1",
        batch_size="16",
        data_autotune="0",
        map_parallelism="4",
    )
    assert (seen["steps"], seen["jit"], seen["epochs"]) == (4, True, 2)
    assert seen["sizes"] == [16] * 4
    assert seen["predicted"] == 64
    assert [graph["autotune"] for graph in seen["graphs"]] == [False] * len(seen["graphs"])
    assert seen["graphs"][0].get("map") in (None, [-1])


def test_who_wants_to_hear_of_each_batch_does(run_forked: RunScript, tmp_path: Path) -> None:
    """steps_per_execution stays as the script has it where a callback counts batches."""
    outcome, seen = look(
        run_forked, tmp_path, ARRAYS.format(kind="Counts"), steps_per_execution="4"
    )
    assert (seen["steps"], seen["batches"]) == (1, 32)
    assert "Counts" in "".join(notice.text for notice in outcome.notices)
