"""A real ``autotune serve`` in a process of its own; with a stub of TensorFlow a trial is quick."""

import contextlib
import os
import re
import signal
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import httpx

from tests.commands import SCRIPT, STUBBED_PATH, autotune
from tests.forked import ForkedCommand

_PATIENCE_S = 120
_MOST_LOGGED = 8 << 20
QUICK: dict[str, Any] = {
    "effort": "fast",
    "trials": 2,
    "pairs": 2,
    "measure_time": "0.2s",
    "window": "0.05s",
    "warmup_min": "0.2s",
    "knobs": ["intra_op", "kernels"],
}


class Serving:
    """One run of the command; ``url``: where it listens, empty with ``--worker-only``."""

    def __init__(self, folder: Path, *options: str, mark: str = "", **environment: str) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.models.mkdir(exist_ok=True)
        script = self.models / "train.py"
        if not script.exists():
            script.write_text(SCRIPT)
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
        self.process = ForkedCommand(
            [
                *("serve", "--models", str(self.models), "--port", "0", "--dashboard-port", "0"),
                *("--pass-env", "PYTHONPATH", "--pass-env", "MARK", *options),
            ],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": STUBBED_PATH,
                "AUTOTUNE_LOCK": str(folder / "lock"),
                "SECRET_OF_THE_SERVICE": "not for trials",
                "MARK": mark,
                **environment,
            },
            stderr=self._log,
        )
        weakref.finalize(self, self._log.close)
        assert self.process.stdout is not None
        lines = {}
        if "--worker-only" not in options:
            for line in self.process.stdout:
                found = re.match(r"(service|dashboard): +(http://\S+)/$", line)
                if found:
                    lines[found[1]] = found[2]
                if "Ctrl-C" in line:
                    break
            assert set(lines) == {"service", "dashboard"}, self.log
        self.url, self.dashboard = lines.get("service", ""), lines.get("dashboard", "")
        self.port = int(self.url.rpartition(":")[2] or 0)
        threading.Thread(target=_drain, args=(self.process.stdout,), daemon=True).start()

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return os.pread(self._log.fileno(), _MOST_LOGGED, 0).decode()

    def client(self, token: str | None = None, **headers: str) -> httpx.Client:
        """Return a client of it."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        # no certificates are read: that takes longer than ten requests
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=60, trust_env=False, verify=False
        )

    def submit(self, **fields: object) -> httpx.Response:
        """Submit a quick study."""
        with self.client() as client:
            return client.post("/studies", json={"script": "train.py", **QUICK, **fields})

    def state(self, study: str) -> dict[str, Any]:
        """Return a study's status."""
        with self.client() as client:
            status: dict[str, Any] = client.get(f"/studies/{quote(study, safe='')}").json()
            return status

    def until(self, study: str, *states: str, trials: int = 0) -> dict[str, Any]:
        """Wait until a study is in one of some states, and has so many trials."""
        deadline = time.monotonic() + _PATIENCE_S
        while (status := self.state(study))["state"] not in states or status["trials"] < trials:
            assert time.monotonic() < deadline, (status, self.log)
            assert status["state"] in (*states, "queued", "running"), (status, self.log)
            time.sleep(0.2)
        return status

    def connect(self) -> socket.socket:
        """Return a bare connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def kill(self) -> None:
        """End it as the kernel does."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it as a user does, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=_PATIENCE_S)


def _drain(stdout: IO[str]) -> None:
    with stdout:
        stdout.read()


@contextlib.contextmanager
def serving(folder: Path, *options: str, **more: str) -> Iterator[Serving]:
    """Run a service while the context lasts."""
    service = Serving(folder, *options, **more)
    try:
        yield service
    finally:
        service.kill()


def make_token(folder: Path, scope: str) -> str:
    """Return a new token, made by the command."""
    options = ("--name", f"for {scope}", "--scope", scope)
    done = autotune("token", "create", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def drip(connection: socket.socket) -> bytes | None:
    """Send one more byte; return what has arrived: b"" at the end, None if nothing."""
    try:
        connection.sendall(b"x")
        connection.settimeout(0.01)
        return connection.recv(4096)
    except TimeoutError:
        return None
    except OSError:
        return b""
