"""Scripts that run as another user, and limits on what a script may use.

Real processes of a real other user, as root; TensorFlow is stubbed where a whole study is run.
"""

import json
import os
import pwd
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotuner.errors import UserError
from autotuner.trial.confinement import Confinement, check_confinement
from autotuner.trial.outcome import Status
from autotuner.trial.request import WarmStart
from autotuner.trial.runner import ProcessRunner
from tests.another_user import AS_NOBODY, NOBODY, PACKAGES, PYTHON, WHY_NOT, open_folder
from tests.commands import QUICK
from tests.processes import left_of
from tests.run_process import RunProcess, trials_in
from tests.trials import RunScript

root_only = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

# prints its identity, and the results of what it must not do
WHO = """\
import json, os, pathlib

def attempt(what):
    try:
        what()
    except PermissionError:
        return "refused"
    return "done"

status = pathlib.Path("/proc/self/status").read_text()
print(json.dumps({{
    "ids": [*os.getresuid(), *os.getresgid()],
    "groups": os.getgroups(),
    "names": [os.environ[name] for name in ("HOME", "USER", "LOGNAME", "SHELL")],
    "session": [name for name in os.environ if name.startswith(("SUDO_", "XDG_", "AUTOTUNE_S"))],
    "no new privileges": "NoNewPrivs:\\t1" in status,
    "read a private file": attempt(lambda: open({secret!r}).read()),
    "write to its folder": attempt(lambda: open({folder!r} + "/new", "w")),
    "replace its request": attempt(lambda: open({folder!r} + "/request.json", "w")),
    "look into the warden": attempt(lambda: open(f"/proc/{{os.getppid()}}/environ").read()),
    "stop the warden": attempt(lambda: os.kill(os.getppid(), 0)),
    "become root again": attempt(lambda: os.setuid(0)),
    "open its log": attempt(lambda: open("/dev/stdout", "a").close()),
}}), flush=True)
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
# 100 MiB that four processes share
SHARING = """\
import os, time
block = bytearray(b"x") * (100 * 2**20)
for _ in range(3):
    if not os.fork():
        time.sleep(60)
        os._exit(0)
from autotuner import step
for _ in range(400):
    time.sleep(0.005)
    step(8)
"""
# each in a session of its own, as a group's end would take them all
FORKING = """\
import os, time
for _ in range(50):
    if not os.fork():
        os.setsid()
        time.sleep(60)
        os._exit(0)
    time.sleep(0.02)
time.sleep(60)
"""
# all fork for as long as they live, into sessions of their own; a hundred at most, for our own sake
SWARMING = """\
import os, resource
resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))
while True:
    try:
        if not os.fork():
            os.setsid()
    except OSError:
        pass
"""
# uses more than others wherever it is given one thread
FICKLE = """\
import os, time
from autotuner import step
print("as", os.getuid(), flush=True)
blocks = []
while True:
    if os.environ.get("TF_NUM_INTRAOP_THREADS") == "1":
        blocks.append(bytearray(4 * 2**20))
    time.sleep(0.004)
    step(8)
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Mark the environment of everything that is started; nothing of it is left afterwards."""
    text = uuid.uuid4().hex
    monkeypatch.setenv("MARK", text)
    yield text
    assert left_of(text) == []


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder of root's that others can go through, to all fixtures here."""
    with open_folder() as folder:
        yield folder


@root_only
def test_a_script_runs_as_another_user(
    run_script: RunScript, tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With that user's name, home and groups; what is root's stays closed to it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    monkeypatch.setenv("AUTOTUNE_STORAGE", "postgresql://tuner:secret@db/autotune")
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    entry = pwd.getpwnam(NOBODY)
    script = WHO.format(secret=str(secret), folder=str(tmp_path / "trial"))
    with ProcessRunner(os.environ, confinement=Confinement(user=NOBODY)) as runner:
        outcome = run_script(script, runner=runner, python=PYTHON)
    said = outcome.log.read_text()
    assert outcome.status is Status.MEASURED, (outcome.reason, said)
    assert json.loads(said.splitlines()[0]) == {
        "ids": [entry.pw_uid] * 3 + [entry.pw_gid] * 3,
        "groups": os.getgrouplist(NOBODY, entry.pw_gid),
        "names": [entry.pw_dir, NOBODY, NOBODY, entry.pw_shell],
        "session": [],
        "no new privileges": True,
        "read a private file": "refused",
        "write to its folder": "refused",
        "replace its request": "refused",
        "look into the warden": "refused",
        "stop the warden": "refused",
        "become root again": "refused",
        "open its log": "done",
    }
    assert outcome.folder.stat().st_uid == 0
    assert stat.S_IMODE(outcome.folder.stat().st_mode) == 0o710


@root_only
def test_what_repeats_a_trial_does_it_as_that_user(
    run_script: RunScript, tmp_path: Path, mark: str
) -> None:
    """Root can run ``repro.sh``: the script does not run as root."""
    script = WHO.format(secret="/etc/shadow", folder=str(tmp_path / "trial"))
    with ProcessRunner(os.environ, confinement=Confinement(user=NOBODY)) as runner:
        outcome = run_script(script, runner=runner, python=PYTHON)
    first = json.loads(outcome.log.read_text().splitlines()[0])
    done = subprocess.run(
        ["sh", outcome.folder / "repro.sh"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout.splitlines()[0])
    for what in ("ids", "groups", "names", "no new privileges", "read a private file"):
        assert again[what] == first[what]


@root_only
def test_a_script_of_another_user_is_not_forked(
    run_script: RunScript, tmp_path: Path, mark: str
) -> None:
    """The warden of a fork would run as that user, who could stop it."""
    warm = WarmStart(modules=("json",), start_timeout_s=20)
    script = WHO.format(secret="/etc/shadow", folder=str(tmp_path / "trial"))
    with ProcessRunner(os.environ, confinement=Confinement(user=NOBODY)) as runner:
        outcome = run_script(script, runner=runner, python=PYTHON, warm_start=warm)
    assert "another user" in outcome.cold_reason
    assert outcome.status is Status.MEASURED, outcome.reason
    assert outcome.facts.forked is False


@pytest.mark.parametrize("warm_start", [None, WarmStart(modules=("json",), start_timeout_s=20)])
def test_memory(run_script: RunScript, mark: str, warm_start: WarmStart | None) -> None:
    """A trial that exceeds a limit is killed, and the reason names the limit."""
    confinement = Confinement(memory_bytes=200 * 2**20)
    with ProcessRunner(os.environ, confinement=confinement) as runner:
        outcome = run_script(GREEDY, runner=runner, warm_start=warm_start)
    assert outcome.status is Status.OVER_LIMIT
    assert outcome.facts.forked is (warm_start is not None)
    assert "--trial-memory allows 200 MiB" in outcome.reason


def test_memory_that_several_share_counts_once(run_script: RunScript, mark: str) -> None:
    """As with workers that are forked after the data has been loaded."""
    confinement = Confinement(memory_bytes=250 * 2**20)
    with ProcessRunner(os.environ, confinement=confinement) as runner:
        outcome = run_script(SHARING, runner=runner)
    assert outcome.status is Status.MEASURED, outcome.reason


def test_processes(run_script: RunScript, mark: str) -> None:
    """So is one that has too many processes; nothing of it is left."""
    with ProcessRunner(os.environ, confinement=Confinement(processes=5)) as runner:
        outcome = run_script(FORKING, runner=runner)
    assert outcome.status is Status.OVER_LIMIT
    assert "--trial-processes allows 5" in outcome.reason


@root_only
@pytest.mark.parametrize("script", [FORKING, SWARMING], ids=["forking", "swarming"])
def test_what_another_user_has_started_is_killed(
    run_script: RunScript, mark: str, script: str
) -> None:
    """Limits hold for another user's processes, and nothing of them is left."""
    confinement = Confinement(user=NOBODY, processes=5)
    with ProcessRunner(os.environ, confinement=confinement) as runner:
        outcome = run_script(script, runner=runner, python=PYTHON)
    assert outcome.status is Status.OVER_LIMIT
    assert "--trial-processes allows 5" in outcome.reason


@root_only
def test_a_study_goes_on_after_a_trial_that_takes_too_much(tmp_path: Path) -> None:
    """Trials over the limit are failed trials with a reason; all of them run as that user."""
    (tmp_path / "train.py").write_text(FICKLE)
    limits = ["--run-as", NOBODY, "--trial-memory", "200M", "--trial-processes", "8"]
    command = ["--model", "train.py", "--study", "s", *QUICK, "--sequential", *limits]
    as_whom = ["--python", str(PYTHON), "--warm", "on"]
    run = RunProcess(tmp_path, *command, *as_whom, mark=uuid.uuid4().hex)
    assert run.end() == 0, run.stderr
    assert run.events[-1]["event"] == "result"
    trials = trials_in(tmp_path / ".autotune/studies.db")
    over = [a for state, a in trials.values() if a.get("status") == Status.OVER_LIMIT.value]
    assert over
    assert all("--trial-memory allows 200 MiB" in one["reason"] for one in over)
    measured = [a for state, a in trials.values() if a.get("status") == Status.MEASURED.value]
    assert len(measured) > 1
    logs = list(tmp_path.glob(".autotune/studies/s/trials/*/output.log"))
    assert len(logs) >= len(over) + len(measured)
    who = f"as {pwd.getpwnam(NOBODY).pw_uid}"
    assert all(log.read_text().splitlines()[0] == who for log in logs)
    assert left_of(run.mark) == []


def test_defaults_that_take_too_much_end_the_study(tmp_path: Path) -> None:
    """There is nothing to tune then; the message names the limit."""
    (tmp_path / "train.py").write_text(GREEDY)
    command = ["--model", "train.py", *QUICK, "--trial-memory", "100M"]
    run = RunProcess(tmp_path, *command, mark=uuid.uuid4().hex)
    assert run.end() == 1
    assert "--trial-memory allows 100 MiB" in run.events[-1]["message"]
    assert left_of(run.mark) == []


@root_only
@pytest.mark.parametrize("command", ["run", "worker", "serve"])
def test_only_root_may(tmp_path: Path, command: str) -> None:
    """Other users get an error at once, and no file is made."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    (home / "train.py").write_text(FICKLE)
    options = {
        "run": ["--model", "train.py"],
        "worker": ["--model", "train.py", "--study", "s", "--storage", "postgresql://x@[::1]:9/x"],
        "serve": ["--models", "."],
    }
    done = subprocess.run(
        [PYTHON, "-m", "autotuner", command, *options[command], "--run-as", "daemon"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": PACKAGES},
        **AS_NOBODY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        "error: --run-as daemon: only root may run scripts as another user\n"
        "hint: start it by sudo, or leave --run-as out\n"
    )
    assert sorted(path.name for path in home.iterdir()) == ["train.py"]


def test_users_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown user, root, and any user for a caller that is not root."""
    assert check_confinement(Confinement()) == Confinement()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for user, said in (("no-such-user", "there is no such user"), ("root", "that is root")):
        with pytest.raises(UserError, match=said):
            check_confinement(Confinement(user=user))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UserError, match="only root"):
        check_confinement(Confinement(user=NOBODY))


@root_only
def test_folders_that_are_refused(tmp_path: Path) -> None:
    """A script that the user can't read; a folder in which root writes and the user may, too."""
    confinement = Confinement(user=NOBODY)
    folder = tmp_path / "study"
    folder.mkdir()
    script = tmp_path / "train.py"
    script.write_text(FICKLE)
    confinement.check_place(folder, [script, tmp_path])
    script.chmod(0o600)
    with pytest.raises(UserError, match=r"train\.py is closed to it"):
        confinement.check_place(folder, [script])
    folder.chmod(0o700)
    with pytest.raises(UserError, match="study is closed to it"):
        confinement.check_place(folder, [])
    folder.chmod(0o755)
    tmp_path.chmod(0o777)
    with pytest.raises(UserError, match="it may write to "):
        confinement.check_place(folder, [])
    tmp_path.chmod(0o1777)
    confinement.check_place(folder, [])
    Confinement(memory_bytes=1).check_place(folder, [Path("/no/such")])


@root_only
def test_a_closed_folder_is_an_error_before_the_first_trial(tmp_path: Path) -> None:
    """The script's own failure would not name the cause."""
    script = tmp_path / "train.py"
    script.write_text(FICKLE)
    script.chmod(0o600)
    command = ["--model", "train.py", "--study", "s", "--run-as", NOBODY, "--python", str(PYTHON)]
    run = RunProcess(tmp_path, *command, mark=uuid.uuid4().hex)
    assert run.end() == 1
    assert f"{script} is closed to it" in run.events[-1]["message"]
    assert trials_in(tmp_path / ".autotune/studies.db") == {}
