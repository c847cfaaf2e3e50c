"""Scripts that run as somebody else, and that may not use as much as they like."""

import os
import pwd
from pathlib import Path

import pytest

from autotuner.errors import UserError
from autotuner.trial.confinement import Confinement, check_confinement
from autotuner.trial.outcome import Status
from autotuner.trial.runner import ProcessRunner
from tests.conftest import RunScript

NOBODY = "nobody"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as somebody else")
WHO = """\
import os, pathlib, sys
print(os.getuid(), os.getgid(), os.getgroups(), os.environ["HOME"], os.environ["USER"], flush=True)
try:
    pathlib.Path({secret!r}).read_text()
    print("has read it", flush=True)
except PermissionError:
    print("may not read it", flush=True)
from autotuner import step
import time
for _ in range(200):
    time.sleep(0.005)
    step(8)
"""
GREEDY = """\
import time
blocks = []
while True:
    blocks.append(bytearray(16 * 2**20))
    time.sleep(0.02)
"""
FORKING = """\
import os, time
for _ in range(50):
    if not os.fork():
        time.sleep(60)
        os._exit(0)
    time.sleep(0.02)
time.sleep(60)
"""


def open_up(folder: Path) -> None:
    """Let other users through to a test's folder."""
    for path in (folder, *folder.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o011)


@root_only
def test_a_script_runs_as_somebody_else(run_script: RunScript, tmp_path: Path) -> None:
    """With that user's name, home and groups; what is root's stays closed to it."""
    open_up(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    entry = pwd.getpwnam(NOBODY)
    with ProcessRunner(os.environ, confinement=Confinement(user=NOBODY)) as runner:
        outcome = run_script(WHO.format(secret=str(secret)), runner=runner)
    said = outcome.log.read_text()
    assert outcome.status is Status.MEASURED, (outcome.reason, said)
    assert f"{entry.pw_uid} {entry.pw_gid} [] {entry.pw_dir} {NOBODY}" in said
    assert "may not read it" in said


def test_memory(run_script: RunScript) -> None:
    """A trial that uses more than it may is killed, and the reason says which limit."""
    confinement = Confinement(memory_bytes=200 * 2**20)
    with ProcessRunner(os.environ, confinement=confinement) as runner:
        outcome = run_script(GREEDY, runner=runner)
    assert outcome.status is Status.OVER_LIMIT
    assert "--trial-memory allows 200 MiB" in outcome.reason


def test_processes(run_script: RunScript) -> None:
    """So is one that has too many processes; nothing of it is left."""
    with ProcessRunner(os.environ, confinement=Confinement(processes=5)) as runner:
        outcome = run_script(FORKING, runner=runner)
    assert outcome.status is Status.OVER_LIMIT
    assert "--trial-processes allows 5" in outcome.reason


def test_who_can_t_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody, root, and anybody for one who is not root."""
    assert check_confinement(Confinement()) == Confinement()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for user, said in (("no-such-user", "there is no such user"), ("root", "that is root")):
        with pytest.raises(UserError, match=said):
            check_confinement(Confinement(user=user))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UserError, match="only root"):
        check_confinement(Confinement(user=NOBODY))
