"""Entry of a trial's child process, and the protocol between it and the parent.

Command line::

    PYTHON entry.py REQUEST EVENTS_FD [ORDERS_FD]
    PYTHON entry.py --warm ...                     a parent of many such processes: see forking.py

Request in: REQUEST is the path of a JSON file, ``schema`` 1, with the fields

``kind``         "trial", or "probe": check the script's syntax, import TensorFlow, say hello, end.
``script``       absolute path of the user's script; ``arguments``: its arguments, a list.
``environment``  all knobs' variables, null for those that are not to be set. The parent has seen to
                 it already; it is done again before numpy and TensorFlow are imported and before
                 the first op, in case the script has changed them.
``pipeline``     the knobs of tf.data by name, null for "as written": see pipeline.py.
``keras``        ``steps_per_execution``, ``jit_compile``, ``batch_size``: see keras_settings.py.
``cpus``         null, or a list of the CPUs that this process is to run on.
``inspect``      true: ``facts`` hold what the script offers to the knobs, see inspection.py.
``feed``         "real", or "cached" or "single": see feed.py.
``record_values`` null, or ``seed`` and ``executions``: fix all seeds, send what that many
                 executions have computed, and end.
``measurement``  ``source`` ("auto", "step", "keras", "dataset", "function", "process"), ``phase``
                 (a name or null), ``window_s``, ``warmup_min_s``, ``warmup_max_s``, ``measure_s``.

Working directory and environment are the parent's choice; standard input is closed; standard output
and standard error belong to the script.

Events out: one JSON object per line on the file descriptor EVENTS_FD, each with ``event`` and ``t``
(monotonic seconds), in this order:

``hello``        ``python``, ``executable``, ``pid``, ``forked`` (by a warm parent).
``tensorflow``   after its import: ``tensorflow``, ``keras``, ``onednn`` (true or false).
``notice``       any time: ``kind``, ``where`` ("file:line"), ``text``: what the user should know;
                 kind "override": the script sets a knob itself, ``knob`` and ``value`` say which.
``stage``        a meter enters "warmup" or "measure": ``meter``, ``source``, ``phase``.
``window``       ``meter``, ``stage``, ``start_s`` (since the meter's first step), ``duration_s``,
                 ``steps``, ``samples`` (null where the batch size is not known), and the marks:
                 ``at_ns``, ``ends_us``, ``counts``, ``lengths_us``, see meter.MeterWindow.
``values``       with ``record_values``: numbers that stand for what an execution has computed.
``done``         the measurement: ``result`` ("measured", "no_steps", "values"), ``meter``,
                 ``source``, ``phase``, ``complete`` (false: the script ended before it was),
                 ``warm`` (false: and before the warm-up was over), ``facts`` (see facts.py),
                 ``ticks`` (of the meter in all),
                 ``usage`` (differences of facts.usage_so_far over the measurement, or null),
                 ``phases_seen`` (no_steps only: the phases there were instead of the asked one).
``error``        ``kind`` ("exception", "exit", "memory", "tensorflow", "syntax", "script"),
                 ``text``, ``where``.

Orders in: a byte on ORDERS_FD, read whenever a window closes, ends the measurement. The process may
be stopped and continued (SIGSTOP, SIGCONT) at any time; its windows then span the stop.

Exactly one ``done`` or ``error`` ends the stream; without one the child died. After ``done`` the
script is unwound: its ``finally`` blocks and atexit handlers run, then the process ends, without
the time that Python takes to free everything.
"""

import importlib.util
import os
import sys

PACKAGE = "_autotune_child"


def _load_package() -> None:
    """Make the folder of this file importable as a package, without touching sys.path."""
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
