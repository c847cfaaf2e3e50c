"""A real PostgreSQL server for a test or benchmark, on loopback, from Debian's package.

apt-get install postgresql
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
AVAILABLE = bool(_BINARIES) or shutil.which("initdb") is not None
REASON = "no PostgreSQL server here: apt-get install postgresql"
PASSWORD = "p@ss/word"  # of this test's server only; it needs quoting in a URL


class Server:
    """A cluster in a folder."""

    def __init__(self, folder: Path) -> None:
        self._bin = _BINARIES[-1] if _BINARIES else Path(shutil.which("initdb") or "").parent
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._user = _unprivileged()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        for path in (folder, password):
            shutil.chown(path, self._user)
        self._run(
            "initdb",
            *("--username", "tuner", "--auth", "scram-sha-256", "--pwfile", str(password)),
            *("--encoding", "UTF8", "--no-locale", "--no-sync"),
        )

    @property
    def url(self) -> str:
        """The server's URL, as a user writes it."""
        return f"postgresql://tuner:p%40ss%2Fword@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        where = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        options = f"{where} -c max_connections=300"  # two for each worker of a fleet
        self._run("pg_ctl", "-w", "-l", str(self._log), "-o", options, "start")

    def stop(self) -> None:
        """Stop the server at once: sessions end, open transactions are rolled back."""
        self._run("pg_ctl", "-w", "-m", "fast", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), "-D", str(self._data), *arguments],
            user=self._user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def _unprivileged() -> str:
    """Return the user that runs the server, which refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Run a server while the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    for parent in folder.parents:  # temporary folders are closed to other users
        if os.geteuid() == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
