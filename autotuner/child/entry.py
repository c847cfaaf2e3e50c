"""Entry of a trial's child process, and the protocol between it and the parent.

Command line::

    PYTHON entry.py REQUEST EVENTS_FD [ORDERS_FD]
    PYTHON entry.py --warm ...                     a parent of many such processes: see forking.py

Request in: REQUEST is the path of a JSON file, ``schema`` 1, with the fields

``kind``         "trial", or "probe": check the script's syntax, import TensorFlow, end.
``script``       absolute path of the user's script; ``arguments``: its arguments, a list.
``environment``  all knobs' variables, null for a variable that must not be set. The parent starts
                 the process with them. The child sets them again before numpy and TensorFlow are
                 imported and before the first op, in case the script has changed them.
``pipeline``     the knobs of tf.data by name, null for the script's own value: see pipeline.py.
``keras``        ``steps_per_execution``, ``jit_compile``, ``batch_size``: see keras_settings.py.
``cpus``         null, or a list of the CPUs that this process runs on.
``inspect``      true: ``facts`` include what the script offers to the knobs, see inspection.py.
``feed``         "real", or "cached" or "single": see feed.py.
``record_values`` null, or ``seed`` and ``executions``: fix all seeds, send what the first
                 executions compute, and end.
``measurement``  ``source`` ("auto", "step", "keras", "dataset", "function", "process"), ``phase``
                 (a name or null), ``window_s``, ``warmup_min_s``, ``warmup_max_s``, ``measure_s``.

Working directory and environment are the parent's choice; standard input is closed; standard output
and standard error belong to the script.

Events out: one JSON object per line on the file descriptor EVENTS_FD, each with ``event`` and ``t``
(monotonic seconds), in this order:

``hello``        ``python``, ``executable``, ``pid``, ``forked`` (true: by a warm parent).
``tensorflow``   after its import: ``tensorflow``, ``package``, ``onednn`` (true, false, null).
``notice``       any time: ``kind``, ``where`` ("file:line"), ``text``: what the user should know;
                 kind "override": the script sets a knob itself, with ``knob`` and ``value``.
``stage``        a meter enters "warmup" or "measure": ``meter``, ``source``, ``phase``.
``window``       ``meter``, ``stage``, ``start_s`` (since the meter's first step), ``duration_s``,
                 ``steps``, ``samples`` (null where the batch size is not known), and the marks:
                 ``at_ns``, ``ends_us``, ``counts``, ``lengths_us``, see meter.MeterWindow.
``values``       with ``record_values``: numbers that summarize what an execution computed.
``done``         the measurement: ``result`` ("measured", "no_steps", "values"), ``meter``,
                 ``source``, ``phase``, ``complete`` (false: the script ended before it was),
                 ``warm`` (false: before the warm-up was over), ``facts`` (see facts.py),
                 ``ticks`` (all ticks of the meter),
                 ``usage`` (differences of facts.usage_so_far over the measurement, or null),
                 ``phases_seen`` (no_steps only: phases other than the requested one).
``error``        ``kind`` ("exception", "exit", "memory", "tensorflow", "syntax", "script"),
                 ``text``, ``where``.

Orders in: a byte on ORDERS_FD ends the measurement; the child reads it when a window closes. The
parent may stop and continue the process (SIGSTOP, SIGCONT) at any time; windows then span the stop.

Exactly one ``done`` or ``error`` ends the stream; without one the child died. After ``done`` the
script is unwound: its ``finally`` blocks and atexit handlers run, then the process ends without
freeing every object.
"""

import importlib.util
import os
import sys

PACKAGE = "_autotune_child"


def _load_package() -> None:
    """Make this file's folder importable as a package without changing sys.path."""
    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError("the child's folder is incomplete: " + folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


def _main(argv: "list[str]") -> None:
    _load_package()
    if argv[0] == "--warm":
        forking = importlib.import_module(PACKAGE + ".forking")
        trial = forking.serve(int(argv[1]), int(argv[2]), argv[3].split(","))
        if trial is None:
            return
    else:
        trial = (argv[0], int(argv[1]), int(argv[2]) if len(argv) > 2 else None)
    session = importlib.import_module(PACKAGE + ".session")
    session.run(*trial, forked=argv[0] == "--warm")


if __name__ == "__main__":
    _main(sys.argv[1:])
