"""Apply the tf.data knobs to a script that was not written for them.

This one file is used in two places: in every trial, and word for word inside the exported
``best.py``, so that what was measured is what is deployed. It needs nothing but TensorFlow.

``map_parallelism`` replaces ``num_parallel_calls`` of each ``Dataset.map`` the script calls: a
number, "AUTOTUNE", or "sequential". A map that its author left sequential stays so where its
function is stateful (py_function, variables, tables, ...). One that is stateful only through random
ops becomes parallel: which draw meets which element is then no longer fixed, so this is not done
where the script has enabled op determinism. The order of elements never changes.

``prefetch_depth`` sets the last prefetch of a dataset that is iterated: a number, "AUTOTUNE", or 0
for none. Where the pipeline has no prefetch at its end, one is appended.

``data_threads`` gives the dataset a private thread pool of that size.

Reached are datasets iterated from Python and through keras; not reached: prefetch and pool of a
dataset looped over inside a tf.function or given to tf.distribute, datasets loaded from disk, and
TensorFlow 1 iterators. The pipelines that keras builds itself for arrays are left alone.
"""

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
# these only contain other functions, whose ops are looked at one by one; Assert has no state
_HARMLESS_OPS = frozenset(["StatefulPartitionedCall", "If", "While", "Case", "Assert"])
_THIN_STAGES = ("OptionsDataset", "RepeatDataset", "TakeDataset")


def apply_data_settings(
    map_parallelism: Any = None,
    prefetch_depth: Any = None,
    data_threads: Any = None,
    notice: Any = None,
) -> None:
    """Patch tf.data.Dataset; call it after TensorFlow's import, before a dataset is built.

    None leaves a knob as the script has it. ``notice(kind, text)``, if given, is called where a map
    is left alone ("map_kept") or changes its random draws ("map_randomness").
    """
    import tensorflow as tf

    dataset_class = tf.data.Dataset
    build_map, build_iterator = dataset_class.map, dataset_class.__iter__
    initialise = dataset_class.__init__

    def marked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        self._autotune_from_keras = _called_by_keras_adapter()
        initialise(self, *args, **kwargs)

    def tuned_map(
        self: Any,
        map_func: Any,
        num_parallel_calls: Any = None,
        deterministic: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        written = (num_parallel_calls, deterministic)
        if _called_by_keras_adapter() or kwargs.get("synchronous"):
            return build_map(self, map_func, *written, *args, **kwargs)
        if map_parallelism == "sequential":
            return build_map(self, map_func, None, None, *args, **kwargs)
        calls = tf.data.AUTOTUNE if map_parallelism == "AUTOTUNE" else map_parallelism
        if num_parallel_calls is not None:
            return build_map(self, map_func, calls, deterministic, *args, **kwargs)
        parallel = build_map(self, map_func, calls, True, *args, **kwargs)
        stateful = _stateful_ops(parallel)
        refusal = _why_sequential(stateful)
        if refusal is not None:
            if notice is not None:
                notice("map_kept", "this map stays sequential: " + refusal)
            return build_map(self, map_func, *written, *args, **kwargs)
        if stateful and notice is not None:
            notice(
                "map_randomness",
                "this map draws random numbers: which draw meets which element changes in parallel",
            )
        return parallel

    def tuned_iter(self: Any) -> Any:
        if not tf.executing_eagerly() or is_keras_own(self):
            return build_iterator(self)
        if "_autotune_finished" not in self.__dict__:  # keras iterates a dataset more than once
            self._autotune_finished = finish(self)
        return build_iterator(self._autotune_finished)

    def finish(dataset: Any) -> Any:
        if prefetch_depth is not None:
            dataset = _with_prefetch(dataset, prefetch_depth)
        options = tf.data.Options()
        if prefetch_depth == 0 and hasattr(options.experimental_optimization, "inject_prefetch"):
            options.experimental_optimization.inject_prefetch = False
        if map_parallelism == "sequential":  # else TensorFlow makes stateless maps parallel itself
            options.experimental_optimization.map_parallelization = False
        if data_threads is not None:
            options.threading.private_threadpool_size = data_threads
        return dataset.with_options(options)

    dataset_class.__init__ = marked_init
    if (map_parallelism, prefetch_depth, data_threads) != (None, None, None):
        dataset_class.__iter__ = tuned_iter
    if map_parallelism is not None:
        dataset_class.map = tuned_map


def _called_by_keras_adapter() -> bool:
    """Tell whether the nearest caller outside TensorFlow is keras' wrapping of arrays."""
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
    """Tell whether all sources of a dataset were made by keras."""
    inputs = dataset._inputs()
    if inputs:
        return all(is_keras_own(source) for source in inputs)
    return bool(getattr(dataset, "_autotune_from_keras", False))


def _stateful_ops(dataset: Any) -> Any:
    """Return the names of the stateful ops in a map's function and in all it calls."""
    from tensorflow.python.framework import op_def_registry

    graph = dataset._map_func.function.graph.as_graph_def()
    names = {node.op for node in graph.node}
    for function in graph.library.function:
        names.update(node.op for node in function.node_def)
    found = set()
    for name in names - _HARMLESS_OPS:
        definition = op_def_registry.get(name)
        # an op the registry does not know is one more function
        if definition is not None and definition.is_stateful:
            found.add(name)
    return found


def _why_sequential(stateful: Any) -> Any:
    """Return why a map that its author left sequential must stay so, or None."""
    from tensorflow.python.framework import config

    others = sorted(stateful - _RANDOM_OPS)
    if others:
        return "its function is stateful (" + ", ".join(others) + ")"
    if stateful and config.is_op_determinism_enabled():
        return "it draws random numbers and the script enables op determinism"
    return None


def _with_prefetch(dataset: Any, depth: Any) -> Any:
    """Replace the last prefetch, looking through repeat, take and options; or append one."""
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
