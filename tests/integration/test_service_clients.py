"""What ``autotune submit``, ``status``, ``cancel`` and ``fetch`` load: little."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.commands import TREE

HEAVY = ("optuna", "sqlalchemy", "numpy", "scipy", "tensorflow")
SCRIPT = f"""\
import sys
from autotuner.cli.main import main

code = main(sys.argv[1:])
print("loaded:", *sorted(set(sys.modules) & set({HEAVY!r})))
sys.exit(code)
"""
STATUS = {
    "name": "train",
    "state": "done",
    "progress": 1.0,
    "message": "FASTER",
    "result": "FASTER",
    "trials": 3,
}


class Canned(BaseHTTPRequestHandler):
    """Answers as the service does, with one study."""

    def do_GET(self) -> None:
        files = {"/studies": json.dumps([STATUS]), "/studies/train/best.env": "export A=1\n"}
        events = f"event: end\ndata: {json.dumps(STATUS)}\n\n"
        self._answer(files.get(self.path.partition("?")[0], events))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(json.dumps(STATUS))

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Be silent."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a stand-in for a service."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Canned) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("status",), "FASTER"),
        (("status", "train", "--follow"), "train: done: FASTER"),
        (("submit", "train.py", "--follow"), "study train: done"),
        (("cancel", "train"), "study train: cancelling"),
        (("fetch", "train", "--output", "best.env"), ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_clients_are_light(
    url: str, tmp_path: Path, arguments: tuple[str, ...], printed: str
) -> None:
    """A machine that only deploys loads no Optuna, SQLAlchemy, NumPy or SciPy to do so."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, "--url", url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TREE)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    assert printed in "\n".join(lines)
    assert loaded == "loaded:"
