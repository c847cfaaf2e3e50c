"""A warm parent: imports TensorFlow once, runs no op, and forks a process for each trial.

Command line::

    PYTHON entry.py --warm ORDERS_FD EVENTS_FD MODULES

It imports MODULES (names separated by commas), writes ``ready`` to EVENTS_FD, and then reads orders
from ORDERS_FD, a Unix socket of sequenced packets. An order is a JSON object with ``request`` (see
entry.py), ``environment`` (the trial's whole environment), ``directory``, ``grace_s`` and
``limits`` (see warden.py). It comes with five descriptors: the trial's events and orders, its
warden's status and lifeline, and its log. The answer to an order is ``forked`` (pid: the warden's)
or ``refused`` (reason). If an import fails, the answer is ``error`` (text), and the process ends.
It also ends when the socket is closed.

Each trial takes two forks: its warden (warden.py), and below it the trial's own process, which then
does what entry.py does in a process that was started. Before a fork nothing may have started a
thread or TensorFlow's context: a lock held by another thread, or a thread pool that no longer
exists, would hang the child for ever. This is checked before each fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any, NamedTuple

from . import facts
from .event_pipe import EventPipe
from .warden import Warden, become_subreaper, die_with_parent

_MOST_BYTES = 2**20
_DESCRIPTORS = 5


class ForkedTrial(NamedTuple):
    """The arguments of a forked process, as entry.py has them on its command line."""

    request: str
    events: int
    orders: int


def serve(orders: int, events: int, modules: list[str]) -> ForkedTrial | None:
    """Import, then fork for each order.

    Returns:
        in a trial's process its arguments; None in this process, at its end.
    """
    _close_all_but(orders, events)
    pipe = EventPipe(events)  # a forked copy closes it
    order_socket = socket.socket(fileno=orders)
    order_socket.set_inheritable(False)
    sys.path.pop(0)  # the child's folder, whose modules the imports must not find
    try:
        for name in modules:
            importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - an import can fail in any way; the failure is the result
        pipe.emit("error", kind="import", text=f"{type(error).__name__}: {error}", where="")
        return None
    gc.collect()
    pipe.emit("ready", tasks=facts.thread_pools())
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        message, descriptors, _, _ = socket.recv_fds(order_socket, _MOST_BYTES, _DESCRIPTORS)
        if not message:
            return None
        trial = _fork(json.loads(message), descriptors, pipe, order_socket)
        if trial is not None:
            return trial


def _close_all_but(*kept: int) -> None:
    """Close descriptors that trials would inherit without need."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # the listing's own
                continue


def _reap(number: int, frame: Any) -> None:
    """Collect ended wardens."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def why_not() -> str | None:
    """Return the reason why this process must not be forked, or None."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"the imports have started {threads - 1} thread(s)"
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    if context is not None and getattr(context, "_context_handle", None) is not None:
        return "the imports have run an op"
    return None


def _fork(
    order: dict[str, Any], descriptors: list[int], pipe: EventPipe, order_socket: socket.socket
) -> ForkedTrial | None:
    """Fork a warden, which forks the trial; return the arguments in the trial's process."""
    reason = why_not()
    if reason is not None:
        pipe.emit("refused", reason=reason)
    else:
        sys.stdout.flush()
        sys.stderr.flush()
        warden = os.fork()
        if not warden:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            order_socket.close()
            return _start_trial(order, *descriptors)
        pipe.emit("forked", pid=warden)
    for descriptor in descriptors:
        os.close(descriptor)
    return None


def _start_trial(
    order: dict[str, Any], events: int, orders: int, status: int, lifeline: int, log: int
) -> ForkedTrial:
    """Become a warden and never return; return in the process that the warden forks."""
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir(order["directory"])
    become_subreaper()
    ready, mark = os.pipe()
    warden = os.getpid()
    trial = os.fork()
    if not trial:
        for descriptor in (ready, status, lifeline):
            os.close(descriptor)
        die_with_parent()
        if os.getppid() != warden:  # the warden died before die_with_parent
            os._exit(1)
        os.setsid()
        os.close(mark)
        _begin(order["environment"])
        return ForkedTrial(order["request"], events, orders)
    for descriptor in (mark, events, orders):
        os.close(descriptor)
    os.read(ready, 1)  # returns when the trial has its own session
    os.close(ready)
    try:
        Warden(lifeline, status, order["grace_s"], order["limits"]).watch(trial)
    finally:
        os._exit(0)


def _begin(environment: dict[str, str]) -> None:
    """Make this process look like one that was just started."""
    for name in list(os.environ):
        if name not in environment:
            del os.environ[name]
    os.environ.update(environment)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # the script's takes its place
