"""The command ``autotune`` in processes that are forked from one that has imported its modules.

A started process takes most of a second of CPU time for that, and the tests have hundreds of them.
Only ``/proc/PID/environ`` and the command line in ``/proc`` differ from those of a started one.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

TREE = Path(__file__).resolve().parents[1]
_IMPORTED = (
    "autotuner.cli.app",
    "autotuner.cli.browse",
    "autotuner.cli.dashboard",
    "autotuner.cli.run_study",
    "autotuner.cli.serve",
    "autotuner.cli.versus",
    "autotuner.cli.worker",
    "autotuner.service.assembly",
    "autotuner.study.studies",
    "optuna.storages",
    "sqlalchemy.dialects.sqlite",
    "scipy.special",
)
_MOST_BYTES = 1 << 17
_PATIENCE_S = 300


class ForkedCommand:
    """A process of the command, with the part of ``Popen``'s interface that tests need.

    Args:
        arguments: of ``autotune``.
        cwd: its working directory.
        env: its whole environment.
        stderr: an open file; by default that of the tests.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
    ) -> None:
        self.returncode: int | None = None
        self._ended = threading.Lock()
        reading = None
        if stdout is None:
            reading, writing = os.pipe()
        else:
            writing = os.dup(stdout.fileno())
        self._status, status = os.pipe()
        message = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)})
        errors = 2 if stderr is None else stderr.fileno()
        try:
            self.pid = _parent().fork(message, [writing, errors, status])
        finally:
            os.close(writing)
            os.close(status)
        self.stdout = None if reading is None else os.fdopen(reading, encoding="utf-8")

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code, negative for a signal."""
        with self._ended:
            if self.returncode is None:
                with selectors.DefaultSelector() as selector:
                    selector.register(self._status, selectors.EVENT_READ)
                    if not selector.select(timeout):
                        raise subprocess.TimeoutExpired("autotune", timeout or 0)
                self.returncode = int(os.read(self._status, 16) or b"255")
                os.close(self._status)
            return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)


def run_forked(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command line to its end, as ``subprocess.run`` does."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = ForkedCommand(arguments, cwd=cwd, env=env, stdout=stdout, stderr=stderr)
        try:
            code = process.wait(_PATIENCE_S)
        finally:
            process.kill()
        texts = [os.pread(file.fileno(), 1 << 26, 0).decode() for file in (stdout, stderr)]
    return subprocess.CompletedProcess(["autotune", *arguments], code, *texts)


class _Parent:
    """The process that has imported everything; it ends with the process of the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                cwd=TREE,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def fork(self, message: str, descriptors: list[int]) -> int:
        """Return the id of a new process."""
        with self._lock:
            socket.send_fds(self._socket, [message.encode()], descriptors)
            answer = self._socket.recv(16)
        if not answer:
            raise RuntimeError("the parent of forked commands has ended")
        return int(answer)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()


_parents: dict[int, _Parent] = {}
_starting = threading.Lock()


def _parent() -> _Parent:
    with _starting:
        if os.getpid() not in _parents:
            _parents[os.getpid()] = _Parent()
        return _parents[os.getpid()]


def close_parent() -> None:
    """End the process that the commands of this process were forked from."""
    with _starting:
        if (parent := _parents.pop(os.getpid(), None)) is not None:
            parent.close()


def _serve(connection: socket.socket) -> None:
    """Fork a command for each message; write its exit code to the descriptor that came with it."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not connection:
                    pid, status = key.data
                    selector.unregister(key.fileobj)
                    _report_end(pid, status)
                    os.close(key.fd)
                    continue
                message, received, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
                if not message:
                    return
                stdout, stderr, status = received
                os.set_inheritable(status, False)
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    connection.close()
                    os.close(status)
                    _become(json.loads(message), stdout, stderr)
                os.close(stdout)
                os.close(stderr)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))
                connection.send(str(pid).encode())


def _report_end(pid: int, status: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(status, str(code).encode())
    os.close(status)


def _become(request: dict[str, object], stdout: int, stderr: int) -> None:
    """Run the command in this process, which ends with it."""
    for descriptor, standard in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # the parent's own, made for a file, can't be changed when they lead into a pipe
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", buffering=1, closefd=False)
    # a test run in the background of a shell ignores SIGINT, and so would a command and its trials
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    sys.argv = ["autotune", *request["arguments"]]  # type: ignore[misc]
    from autotuner.cli.main import run

    run()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    for module in _IMPORTED:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as own:
        _serve(own)
