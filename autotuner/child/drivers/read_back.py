"""Reads back each knob's effect in a fresh process, for ``autotune check``.

Command line: ``read_back.py KNOBS``, where KNOBS is a JSON object of values by knob. It is started
in the same way as ``autotune exec`` starts a script. The last line on standard output is a mark and
a JSON object: ``facts``, and ``read``, which has [value, how] by knob. Values are observed in
TensorFlow, in a library under it or in the kernel; ``tf.config.threading.get_*`` only returns what
was configured. Standard library and TensorFlow only.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterable
from typing import Any

MARK = "AUTOTUNE_READ_BACK "
_AUTOTUNE = -1
_INFINITE = 2**31 - 1


def main() -> None:
    """Run a few ops, read the knobs back, and print them."""
    wanted = json.loads(sys.argv[1])
    import tensorflow as tf

    read: dict[str, Any] = {}
    _read_pools(tf, read)
    _read_onednn(read)
    _run_convolution(tf)
    _read_openmp(read)
    if any(name.startswith(_DATA) for name in wanted):
        _read_pipeline(tf, read)
    if {"steps_per_execution", "jit_compile", "batch_size"} & set(wanted):
        _read_keras(tf, read, wanted)
    if "auto_jit" in wanted:
        _read_auto_jit(tf, read)
    _read_process(read, wanted)
    facts = _facts()
    found = facts.tensorflow_facts(tf)
    found["openmp"] = facts.openmp_runtime()
    found["python"] = ".".join(str(part) for part in sys.version_info[:3])
    sys.stdout.write("\n" + MARK + json.dumps({"facts": found, "read": read}) + "\n")


def _facts() -> Any:
    """Return the child's module ``facts``; autotune exec has loaded its package."""
    return importlib.import_module("_autotune_child.facts")


_REPEATS = 100
_WORKED = 10  # a thread of the pool gets the CPU about once for each repeat


def _threads() -> dict[int, str]:
    """Return the names of this process's threads by their identifiers."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open("/proc/self/task/" + task + "/comm") as file:
            found[int(task)] = file.read().strip()
    return found


def _times_on_cpu(threads: Iterable[int]) -> dict[int, int]:
    """Return how often each thread has run on a CPU."""
    found = {}
    for thread in threads:
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/schedstat") as file:
            found[thread] = int(file.read().split()[2])
    return found


def _read_pools(tf: Any, read: dict[str, Any]) -> None:
    """Count the threads that work on one op (not one of oneDNN's), and those that do not.

    TensorFlow starts both pools with its first op. An op in a pool of one runs in the caller.
    Newer builds name the inter-op threads; in older ones they are the threads without work.
    """
    before = set(_threads())
    tf.config.list_logical_devices()
    names = {thread: name for thread, name in _threads().items() if thread not in before}
    x = tf.ones([2048, 2048])
    (x * 1.5).numpy()
    start = _times_on_cpu(names)
    for _ in range(_REPEATS):
        y = x * 1.5
    y.numpy()
    end = _times_on_cpu(names)
    worked = [thread for thread in start if end.get(thread, 0) - start[thread] >= _WORKED]
    intra = max(1, len(worked))
    read["intra_op"] = [intra, "threads that worked on one op"]
    named = sum(name == "tf_Compute" for name in names.values())
    read["inter_op"] = (
        [named, "threads named tf_Compute"]
        if named
        else [len(names) - intra, "threads that TensorFlow started and that do not work on one op"]
    )


def _read_onednn(read: dict[str, Any]) -> None:
    try:
        from tensorflow.python.util import _pywrap_util_port
    except ImportError:
        return
    read["onednn"] = [str(int(_pywrap_util_port.IsMklEnabled())), "IsMklEnabled()"]


def _run_convolution(tf: Any) -> None:
    """Run a convolution, which oneDNN splits over all its threads."""

    def relu(images: Any, filters: Any) -> Any:
        return tf.nn.relu(tf.nn.conv2d(images, filters, 1, "SAME"))

    convolve = tf.function(relu)
    for _ in range(3):
        convolve(tf.ones([8, 64, 64, 16]), tf.ones([3, 3, 16, 32])).numpy()


def _mapped(*beginnings: str) -> str | None:
    for file in _facts().mapped_files():
        if os.path.basename(file).startswith(beginnings):
            return str(file)
    return None


def _read_openmp(read: dict[str, Any]) -> None:
    file = _mapped(*_facts().OPENMP_LIBRARIES)
    nothing = "no OpenMP runtime in the process"
    if file is None:
        for name in ("omp_num_threads", "kmp_blocktime", "kmp_affinity"):
            read[name] = [None, nothing]
    else:
        library, name = ctypes.CDLL(file), os.path.basename(file)
        read["omp_num_threads"] = [
            library.omp_get_max_threads(),
            "omp_get_max_threads() of " + name,
        ]
        if hasattr(library, "kmp_get_blocktime"):
            time = library.kmp_get_blocktime()
            read["kmp_blocktime"] = [
                "infinite" if time == _INFINITE else str(time),
                "kmp_get_blocktime() of " + name,
            ]
            bound = _bound_threads()
            read["kmp_affinity"] = [
                "pinned" if bound else "none",
                f"{bound} thread(s) bound to fewer CPUs than the process",
            ]
        else:
            for knob in ("kmp_blocktime", "kmp_affinity"):
                read[knob] = [None, name + " does not know it"]
    mkl = _mapped("libmkl_rt")
    read["mkl_num_threads"] = [None, "no MKL in the process"]
    if mkl is not None:
        read["mkl_num_threads"] = [ctypes.CDLL(mkl).MKL_Get_Max_Threads(), "MKL_Get_Max_Threads()"]


def _bound_threads() -> int:
    own, bound = os.sched_getaffinity(0), 0
    everywhere = max((os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task")), key=len)
    own = max(own, everywhere, key=len)
    for task in os.listdir("/proc/self/task"):
        bound += len(os.sched_getaffinity(int(task))) < len(own)
    return bound


_DATA = ("map_", "interleave_", "batch_par", "prefetch_", "data_")


def _read_pipeline(tf: Any, read: dict[str, Any]) -> None:
    """Build a pipeline, iterate it, and read its graph and its options."""
    dataset = (
        tf.data.Dataset.range(64)
        .interleave(tf.data.Dataset.from_tensors, cycle_length=2)
        .map(lambda x: x + 1)
        .batch(4)
    )
    next(iter(dataset))
    dataset = dataset.__dict__.get("_autotune_finished", dataset)
    options = dataset.options()
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    nodes = {node.name: node for node in graph.node}

    def parallelism(parallel: str, sequential: str, at: int) -> Any:
        for node in graph.node:
            if node.op.startswith(parallel):
                value = nodes[node.input[at]].attr["value"].tensor
                number = int(tf.make_ndarray(value))
                return "AUTOTUNE" if number == _AUTOTUNE else str(number)
        return sequential

    how = "the graph of a dataset that was iterated"
    optimization = options.experimental_optimization
    by_itself = optimization.map_parallelization is not False
    read["map_parallelism"] = [
        parallelism("ParallelMap", "left to TensorFlow" if by_itself else "sequential", -1),
        how,
    ]
    read["interleave_parallelism"] = [parallelism("ParallelInterleave", "sequential", -1), how]
    read["batch_parallelism"] = [parallelism("ParallelBatch", "sequential", 2), how]
    injected = getattr(optimization, "inject_prefetch", False) is not False
    read["prefetch_depth"] = [
        parallelism("Prefetch", "left to TensorFlow" if injected else "0", 1),
        how,
    ]
    how = "the options of a dataset that was iterated"
    read["data_threads"] = [str(options.threading.private_threadpool_size), how]
    read["data_autotune"] = [_digit(options.autotune.enabled), how]
    read["data_cpu_budget"] = [str(options.autotune.cpu_budget), how]


def _digit(flag: Any) -> Any:
    return None if flag is None else str(int(flag))


def _read_keras(tf: Any, read: dict[str, Any], wanted: dict[str, Any]) -> None:
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    rows = 128
    x = tf.ones([rows, 4]).numpy()
    model.fit(x, x[:, :1], batch_size=2, verbose=0)
    steps: Any = getattr(model, "steps_per_execution", None)
    if steps is None:
        steps = getattr(model, "_steps_per_execution", 1)
    read["steps_per_execution"] = [str(int(steps)), "the model after fit"]
    jit = getattr(model, "jit_compile", None)
    read["jit_compile"] = [_digit(jit is True), "the model after fit"]
    if "batch_size" in wanted:
        sizes = []

        class Sizes(tf.keras.callbacks.Callback):  # type: ignore[misc]
            def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
                sizes.append(len(logs["outputs"]))

        model.predict(tf.ones([1024, 4]).numpy(), callbacks=[Sizes()], verbose=0)
        read["batch_size"] = [str(sizes[0]), "samples in the first batch of a predict"]


def _read_auto_jit(tf: Any, read: dict[str, Any]) -> None:
    def steps(x: Any) -> Any:
        for _ in range(8):
            x = tf.tanh(tf.matmul(x, x) * 0.5 + 1.0)
        return x

    chain = tf.function(steps)
    for _ in range(3):
        chain(tf.ones([64, 64])).numpy()
    compiled = any("XLA" in name for name in _facts().thread_pools())
    read["auto_jit"] = ["on" if compiled else "off", "threads of XLA's after a chain of ops"]


def _read_process(read: dict[str, Any], wanted: dict[str, Any]) -> None:
    if hasattr(os, "sched_getaffinity"):
        read["cpus"] = [sorted(os.sched_getaffinity(0)), "sched_getaffinity()"]
    if "allocator" in wanted:
        file = os.path.realpath(str(wanted["allocator"]))
        mapped = _mapped(os.path.basename(file)) is not None
        read["allocator"] = [wanted["allocator"] if mapped else None, "files that are mapped"]
    if "malloc_arenas" in wanted:
        read["malloc_arenas"] = [str(_arenas()), "malloc_info() with 16 threads"]


def _arenas() -> int:
    """Return the number of arenas that glibc makes for 16 threads allocating at the same time."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    barrier = threading.Barrier(17)

    def allocate() -> None:
        block = libc.malloc(1000)
        barrier.wait()
        barrier.wait()
        libc.free(block)

    threads = [threading.Thread(target=allocate) for _ in range(16)]
    for thread in threads:
        thread.start()
    barrier.wait()
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    libc.open_memstream.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    barrier.wait()
    for thread in threads:
        thread.join()
    return len(re.findall(rb"<heap nr=", text.value or b""))


if __name__ == "__main__":
    main()
