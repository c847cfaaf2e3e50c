"""A warm parent: imports TensorFlow once, runs no op, and forks a process for each trial.

Command line::

    PYTHON entry.py --warm ORDERS_FD EVENTS_FD MODULES

It imports MODULES (names with commas), says ``ready`` on EVENTS_FD, and then takes orders from
ORDERS_FD, a Unix socket of sequenced packets. An order is a JSON object with ``request`` (see
entry.py), ``environment`` (the trial's whole environment), ``directory``, ``grace_s`` and
``limits`` (see warden.py), and comes with five descriptors: the trial's events and orders, its
warden's status and lifeline, and its log. For each order it says ``forked`` (pid: of the warden) or
``refused`` (reason); when it can't import it says ``error`` (text) and ends. It ends when the
socket is closed.

Two processes are forked for a trial: its warden (warden.py), and below it the trial's own, which
then does what entry.py does in a process that was started. Nothing may have started a thread or
TensorFlow's context before a fork: what holds a lock in another thread, or a thread pool that is
not there any more, hangs the child for ever. That is looked at before each fork.
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


class Trial(NamedTuple):
    """What a forked process is to do."""

    request: str
    events: int
    orders: int


def serve(orders: int, events: int, modules: list[str]) -> Trial | None:
    """Import, then fork for each order. Returns in a trial's process, and at the end (None)."""
    _close_all_but(orders, events)
    pipe = EventPipe(events)  # a forked copy closes it
    asked = socket.socket(fileno=orders)
    asked.set_inheritable(False)
    sys.path.pop(0)  # the child's folder: its modules are nobody's business here
    try:
        for name in modules:
            importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - an import can fail in any way, that is the answer
        pipe.emit("error", text=f"{type(error).__name__}: {error}")
        return None
    gc.collect()
    pipe.emit("ready", tasks=facts.thread_pools())
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, _MOST_BYTES, _DESCRIPTORS)
        if not message:
            return None
        trial = _fork(json.loads(message), descriptors, pipe, asked)
        if trial is not None:
            return trial


def _close_all_but(*kept: int) -> None:
    """Close descriptors that trials would inherit for nothing."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # the listing's own
                continue


def _reap(number: int, frame: Any) -> None:
    """Collect wardens that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def why_not() -> str | None:
    """Return why this process must not be forked, or None."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"the imports have started {threads - 1} thread(s)"
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    if context is not None and getattr(context, "_context_handle", None) is not None:
        return "the imports have run an op"
    return None


def _fork(
    order: dict[str, Any], descriptors: list[int], pipe: EventPipe, asked: socket.socket
) -> Trial | None:
    """Fork a warden, which forks the trial; return in the trial's process what to do."""
    reason = why_not()
    if reason is not None:
        pipe.emit("refused", reason=reason)
    else:
        sys.stdout.flush()
        sys.stderr.flush()
        warden = os.fork()
        if not warden:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked.close()
            return _start_trial(order, *descriptors)
        pipe.emit("forked", pid=warden)
    for descriptor in descriptors:
        os.close(descriptor)
    return None


def _start_trial(
    order: dict[str, Any], events: int, orders: int, status: int, lifeline: int, log: int
) -> Trial:
    """Become a warden and never return; return in the process that it forks."""
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
        if os.getppid() != warden:  # it was quicker
            os._exit(1)
        os.setsid()
        os.close(mark)
        _begin(order["environment"])
        return Trial(order["request"], events, orders)
    for descriptor in (mark, events, orders):
        os.close(descriptor)
    os.read(ready, 1)  # until the trial has a session of its own
    os.close(ready)
    try:
        Warden(lifeline, status, order["grace_s"], order["limits"]).watch(trial)
    finally:
        os._exit(0)


def _begin(environment: dict[str, str]) -> None:
    """Make this process what one would be that has just been started, as far as that goes."""
    for name in list(os.environ):
        if name not in environment:
            del os.environ[name]
    os.environ.update(environment)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # the script's takes its place
