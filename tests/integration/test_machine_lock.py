"""One tuning run at a time: the lock between real processes."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autotuner.errors import UserError
from autotuner.machine.lock import hold_machine, lock_path
from tests.commands import autotune
from tests.processes import wait_for

HOLD = """
import sys, time
from pathlib import Path
from autotuner.machine.lock import hold_machine
with hold_machine("theirs", wait=False, report=print):
    Path(sys.argv[1]).touch()
    time.sleep(600)
"""


def test_a_second_run_is_refused_with_the_first_one_s_name(tmp_path: Path) -> None:
    """The message names the study and the process, and --wait."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "held")])
    try:
        wait_for((tmp_path / "held").exists, "the lock is held")
        (tmp_path / "train.py").write_text("import tensorflow")
        done = autotune("run", "--model", "train.py", cwd=tmp_path)
        assert done.returncode == 1
        assert f"study theirs, process {holder.pid}, since 20" in done.stderr
        assert "--wait" in done.stderr
    finally:
        holder.kill()
        holder.wait()


def test_waiting_ends_when_the_first_is_killed(tmp_path: Path) -> None:
    """A killed holder leaves the lock free for the one that waits."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "held")])
    wait_for((tmp_path / "held").exists, "the lock is held")
    messages: list[str] = []

    def report(text: str) -> None:
        messages.append(text)
        os.kill(holder.pid, signal.SIGKILL)

    with hold_machine("ours", wait=True, report=report):
        assert "theirs" in messages[0]
    holder.wait()
    with hold_machine("again", wait=False, report=messages.append):
        assert len(messages) == 1


def test_another_user_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe in its place is refused; a holder that can't be read is not known."""
    monkeypatch.setenv("AUTOTUNE_LOCK", str(tmp_path / "pipe"))
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(UserError, match="not a regular file"),
        hold_machine("ours", wait=False, report=print),
    ):
        pass
    nested = tmp_path / "nested"
    monkeypatch.setenv("AUTOTUNE_LOCK", str(nested))
    with hold_machine("theirs", wait=False, report=print):
        nested.write_text("[" * 4096)
        with (
            pytest.raises(UserError, match="its name is not known"),
            hold_machine("ours", wait=False, report=print),
        ):
            pass


def test_all_users_may_lock(tmp_path: Path) -> None:
    """Every user can open the file."""
    with hold_machine("ours", wait=False, report=print):
        assert lock_path().stat().st_mode & 0o777 == 0o666


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """The lock is not written through a link that another user may have made."""
    lock_path().symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(UserError, match="can't be locked"),
        hold_machine("ours", wait=False, report=print),
    ):
        pass


TAKE_TURNS = """
import sys, time
from autotuner.machine.lock import hold_machine
name, log = sys.argv[1:]
for _ in range(40):
    with hold_machine(name, wait=True, report=lambda text: None):
        with open(log, "a") as file:
            file.write(name)
        time.sleep(0.03)
"""


def test_waiting_processes_take_turns(tmp_path: Path) -> None:
    """Three processes that want the machine again and again share it."""
    log = tmp_path / "log"
    takers = [
        subprocess.Popen([sys.executable, "-c", TAKE_TURNS, name, str(log)]) for name in "abc"
    ]
    for taker in takers:
        assert taker.wait(timeout=60) == 0
    order = log.read_text()
    order = order[max(order.index(name) for name in "abc") :]  # all of them are there
    order = order[: min(order.rindex(name) for name in "abc")]
    changes = sum(one != other for one, other in itertools.pairwise(order))
    assert changes >= 0.85 * (len(order) - 1), order
