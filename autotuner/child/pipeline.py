"""Apply the tf.data knobs to a script that was not written for them.

This file is used in every trial and copied verbatim into the exported ``best.py``, so that the
deployed code is the measured code. It needs nothing but TensorFlow.

``map_parallelism`` replaces ``num_parallel_calls`` of each ``Dataset.map`` in the script: a number,
"AUTOTUNE", or "sequential". A map that the script leaves sequential stays sequential if its
function is stateful (py_function, variables, tables, ...). If only random ops make it stateful, it
becomes parallel, unless the script has enabled op determinism: the assignment of random draws to
elements is then no longer fixed. The order of elements never changes.

``interleave_parallelism`` does the same for ``Dataset.interleave``. The cycle length stays that of
the script's own call: the order of elements depends on it, and it bounds the number.
``batch_parallelism`` does it for ``Dataset.batch``.

``prefetch_depth`` sets the last prefetch of an iterated dataset: a number, "AUTOTUNE", or 0 for
none. A pipeline without a prefetch at its end gets one.

``data_threads`` gives the dataset a private thread pool of that size; ``data_autotune`` (0 or 1)
and ``data_cpu_budget`` set the options of tf.data's own tuning.

The knobs act on datasets that Python or keras iterates. They do not act on prefetch and pool of a
dataset that a tf.function iterates or that tf.distribute gets, on datasets loaded from disk, and on
TensorFlow 1 iterators. In pipelines that keras builds for arrays, only the options of tf.data's own
tuning are set.
"""

import os
import sys
from typing import Any

_RANDOM_OPS = frozenset(
    [
        "RandomUniform",
        "RandomUniformInt",
        "RandomStandardNormal",
        "TruncatedNormal",
        "RandomShuffle",
        "ParameterizedTruncatedNormal",
        "Multinomial",
        "RandomGamma",
        "RandomGammaGrad",
        "RandomPoisson",
        "RandomPoissonV2",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
    ]
)
# calls only contain other functions, whose ops are checked one by one; Assert has no state;
# TensorFlow marks dataset sources as stateful only to keep them from being folded
_HARMLESS_OPS = frozenset(
    [
        "StatefulPartitionedCall",
        "If",
        "While",
        "Case",
        "Assert",
        "CSVDataset",
        "CSVDatasetV2",
        "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2",
        "ListDataset",
        "RangeDataset",
        "SparseTensorSliceDataset",
        "TensorDataset",
        "TensorSliceDataset",
        "TextLineDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
    ]
)
_THIN_STAGES = ("OptionsDataset", "RepeatDataset", "TakeDataset")


def apply_data_settings(
    map_parallelism: Any = None,
    prefetch_depth: Any = None,
    data_threads: Any = None,
    interleave_parallelism: Any = None,
    batch_parallelism: Any = None,
    data_autotune: Any = None,
    data_cpu_budget: Any = None,
    notice: Any = None,
) -> None:
    """Patch tf.data.Dataset; call it after TensorFlow's import, before a dataset is built.

    None leaves a knob as the script has it. ``notice(kind, text)``, if given, is called where a map
    stays sequential ("map_kept") or gets other random draws ("map_randomness").
    """
    import tensorflow as tf

    dataset_class = tf.data.Dataset
    build_map, build_interleave = dataset_class.map, dataset_class.interleave
    build_batch, build_iterator = dataset_class.batch, dataset_class.__iter__
    initialise = dataset_class.__init__

    def marked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        self._autotune_from_keras = _called_by_keras_adapter()
        initialise(self, *args, **kwargs)

    def number(value: Any) -> Any:
        return tf.data.AUTOTUNE if value == "AUTOTUNE" else value

    def with_calls(stage: str, build: Any, value: Any, calls: Any, deterministic: Any) -> Any:
        """Build a stage by ``build(calls, deterministic)`` with the knob's value where possible."""
        if value == "sequential":
            return build(None, None)
        if calls is not None:
            return build(number(value), deterministic)
        parallel = build(number(value), True)
        stateful = _stateful_ops(parallel)
        refusal = _why_sequential(stateful)
        if refusal is not None:
            if notice is not None:
                notice("map_kept", f"this {stage} stays sequential: {refusal}")
            return build(calls, deterministic)
        if stateful and notice is not None:
            notice(
                "map_randomness",
                f"this {stage} draws random numbers: "
                "which draw meets which element changes in parallel",
            )
        return parallel

    def tuned_map(
        self: Any,
        map_func: Any,
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        def build(calls: Any, ordered: Any) -> Any:
            return build_map(self, map_func, calls, ordered, *args, **kwargs)

        if _called_by_keras_adapter() or kwargs.get("synchronous"):
            return build(num_parallel_calls, deterministic)
        return with_calls("map", build, map_parallelism, num_parallel_calls, deterministic)

    def tuned_interleave(
        self: Any,
        map_func: Any,
        cycle_length: Any = None,
        block_length: Any = None,
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        cycle = _cycle_length(cycle_length, num_parallel_calls)

        def build(calls: Any, ordered: Any) -> Any:
            if calls is not None and cycle > 0:
                calls = min(calls, cycle)  # TensorFlow refuses more
            return build_interleave(
                self, map_func, cycle, block_length, calls, ordered, *args, **kwargs
            )

        value = interleave_parallelism
        return with_calls("interleave", build, value, num_parallel_calls, deterministic)

    def tuned_batch(
        self: Any,
        batch_size: Any,
        drop_remainder: Any = False,
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        calls, ordered = num_parallel_calls, deterministic
        if not _called_by_keras_adapter():
            calls = None if batch_parallelism == "sequential" else number(batch_parallelism)
            if calls is None:
                ordered = None
            elif num_parallel_calls is None:
                ordered = True
        return build_batch(self, batch_size, drop_remainder, calls, ordered, *args, **kwargs)

    def tuned_iter(self: Any) -> Any:
        if not tf.executing_eagerly():
            return build_iterator(self)
        if "_autotune_finished" not in self.__dict__:  # keras iterates a dataset more than once
            tuned = self if is_keras_own(self) else with_own_knobs(self)
            self._autotune_finished = with_tuning(tuned)
        return build_iterator(self._autotune_finished)

    def with_own_knobs(dataset: Any) -> Any:
        if prefetch_depth is not None:
            dataset = _with_prefetch(dataset, prefetch_depth)
        options = tf.data.Options()
        if prefetch_depth == 0 and hasattr(options.experimental_optimization, "inject_prefetch"):
            options.experimental_optimization.inject_prefetch = False
        if map_parallelism == "sequential":  # or TensorFlow makes stateless maps parallel
            options.experimental_optimization.map_parallelization = False
        if data_threads is not None:
            options.threading.private_threadpool_size = data_threads
        return dataset.with_options(options)

    def with_tuning(dataset: Any) -> Any:
        options = tf.data.Options()
        if data_autotune is not None:
            options.autotune.enabled = bool(data_autotune)
        if data_cpu_budget is not None:
            options.autotune.cpu_budget = data_cpu_budget
        return dataset.with_options(options)

    dataset_class.__init__ = marked_init
    at_iteration = (map_parallelism, prefetch_depth, data_threads, data_autotune, data_cpu_budget)
    if any(value is not None for value in at_iteration):
        dataset_class.__iter__ = tuned_iter
    if map_parallelism is not None:
        dataset_class.map = tuned_map
    if interleave_parallelism is not None:
        dataset_class.interleave = tuned_interleave
    if batch_parallelism is not None:
        dataset_class.batch = tuned_batch


def _cycle_length(written: Any, calls: Any) -> Any:
    """Return the cycle length of an interleave; if not given, it depends on its parallelism.

    TensorFlow's kernels (interleave_dataset_op.cc, parallel_interleave_dataset_op.cc) take the
    number of CPUs; the parallelism if that is less; a third of the CPUs for AUTOTUNE.
    """
    if written is not None and int(written) > 0:
        return written
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if calls is None:
        return cpus
    return -(-cpus // 3) if int(calls) < 1 else min(int(calls), cpus)


def _called_by_keras_adapter() -> bool:
    """Tell whether the nearest caller outside TensorFlow is keras' adapter for arrays."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if "keras" in name.split(".")[:3] or name.startswith("tf_keras"):
            return "data_adapter" in name
        if name.split(".")[0] not in ("tensorflow", __name__.split(".")[0]):
            return False
        frame = frame.f_back
    return False


def is_keras_own(dataset: Any) -> bool:
    """Tell whether keras made all sources of a dataset."""
    inputs = dataset._inputs()
    if inputs:
        return all(is_keras_own(source) for source in inputs)
    return bool(getattr(dataset, "_autotune_from_keras", False))


def _stateful_ops(dataset: Any) -> Any:
    """Return the names of the stateful ops in a map's function and in all functions it calls."""
    from tensorflow.python.framework import op_def_registry

    graph = dataset._map_func.function.graph.as_graph_def()
    names = {node.op for node in graph.node}
    for function in graph.library.function:
        names.update(node.op for node in function.node_def)
    found = set()
    for name in names - _HARMLESS_OPS:
        definition = op_def_registry.get(name)
        # an op that is not in the registry is another function
        if definition is not None and definition.is_stateful:
            found.add(name)
    return found


def _why_sequential(stateful: Any) -> Any:
    """Return why a map that the script leaves sequential must stay sequential, or None."""
    from tensorflow.python.framework import config

    others = sorted(stateful - _RANDOM_OPS)
    if others:
        return "its function is stateful (" + ", ".join(others) + ")"
    if stateful and config.is_op_determinism_enabled():
        return "it draws random numbers and the script enables op determinism"
    return None


def _with_prefetch(dataset: Any, depth: Any) -> Any:
    """Replace the last prefetch, also behind repeat, take and options, or append one."""
    import tensorflow as tf

    size = tf.data.AUTOTUNE if depth == "AUTOTUNE" else depth
    thin, stage = [], dataset
    while type(stage).__name__.lstrip("_") in _THIN_STAGES:
        thin.append(stage)
        stage = stage._input_dataset
    if type(stage).__name__.lstrip("_") != "PrefetchDataset":
        return dataset.prefetch(size) if depth != 0 else dataset
    rebuilt = stage._input_dataset
    if depth != 0:
        rebuilt = rebuilt.prefetch(size)
    for wrapper in reversed(thin):
        kind = type(wrapper).__name__.lstrip("_")
        if kind == "RepeatDataset":
            rebuilt = rebuilt.repeat(wrapper._count)
        elif kind == "TakeDataset":
            rebuilt = rebuilt.take(wrapper._count)
        else:
            rebuilt = rebuilt.with_options(wrapper.options())
    return rebuilt
