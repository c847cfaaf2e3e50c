"""Scripts that write to autotune's pipe, close it, or end the warden: each trial fails or goes on.

No deadline is missed, nothing is written into a script's files, and no process is left.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from autotuner.files import create, open_regular, write_whole
from autotuner.trial.folder import last_lines
from autotuner.trial.outcome import Status
from tests.processes import living_with
from tests.trials import QUICK, STEPS, RunScript

FIND = """
import os, json, time
PIPES = []
for name in os.listdir("/proc/self/fd"):
    try:
        if int(name) > 2 and "pipe:" in os.readlink("/proc/self/fd/" + name):
            os.write(int(name), b"")
            PIPES.append(int(name))
    except OSError:
        continue
def send(data):
    for pipe in PIPES:
        try:
            os.write(pipe, data)
        except OSError:
            continue
assert PIPES
"""
WRITES = "the script writes into the pipe between its process and autotune"
CLOSED = "the script's process has closed the pipe to autotune"


def others(mark: str) -> list[int]:
    """Return the marked processes besides this one."""
    return [pid for pid in living_with(mark) if pid != os.getpid()]


@pytest.mark.parametrize(
    "flood",
    [
        "while True: send(b'x' * 4096)",
        "while True: send(b'x\\n' * 2048)",
        'while True: send(b\'{"event": "notice"}\\n\' * 200)',
        'while True: send(b\'{"event": "values", "values": []}\\n\' * 100)',
        "while True: send(b'x' * 100); time.sleep(0.001)",
    ],
    ids=["no line", "short lines", "wrong shapes", "right shapes", "slowly"],
)
def test_a_flood_is_bounded(run_script: RunScript, mark: str, flood: str) -> None:
    """The trial fails before its deadline, or at it, whatever is sent and how fast."""
    outcome = run_script(FIND + flood, timing=replace(QUICK, start_timeout_s=4, grace_s=0.5))
    assert outcome.status in (Status.CRASHED, Status.TIMED_OUT), outcome.reason
    if outcome.status is Status.CRASHED:
        assert WRITES in outcome.reason
    assert others(mark) == []


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        "text",
        {},
        {"event": 3},
        {"event": "exited", "code": 0, "signal": None},
        {"event": "window"},
        {"event": "window", "meter": "m", "stage": "measure", "start_s": "0"},
        {"event": "stage", "meter": [], "stage": "measure", "source": "", "phase": "", "t": 0},
        {"event": "values", "values": ["a"]},
        {"event": "hello", "t": 1e400, "python": "3", "pid": 1, "forked": False},
        {"event": "done", "t": 0.0, "result": "measured", "facts": {"thread_pools": []}},
        {"event": "error", "kind": "memory", "text": {}, "where": ""},
        {"event": "notice", "kind": "a", "where": "b", "text": None},
    ],
    ids=str,
)
def test_messages_of_a_wrong_shape_fail_the_trial(
    run_script: RunScript, mark: str, message: object
) -> None:
    """Though the script is measured after it, its result can't be trusted."""
    outcome = run_script(FIND + f"send({json.dumps(message).encode()!r} + b'\\n')\n" + STEPS)
    assert outcome.status is Status.CRASHED
    assert WRITES in outcome.reason
    assert others(mark) == []


@pytest.mark.parametrize(
    "swap",
    [
        "os.mkfifo(log)",
        "os.symlink('/dev/zero', log)",
        "os.symlink('/etc/passwd', log)",
        "os.mkdir(log)",
    ],
)
@pytest.mark.parametrize("end", ["raise ValueError('boom')", STEPS], ids=["fails", "steps"])
def test_a_log_that_is_replaced(run_script: RunScript, swap: str, end: str) -> None:
    """What lies in its place is neither waited for, nor read without end, nor followed."""
    script = "import os\nlog = os.readlink('/proc/self/fd/1')\nos.unlink(log)\n"
    outcome = run_script(f"{script}{swap}\n{end}\n", timing=QUICK)
    assert outcome.status is (Status.MEASURED if end == STEPS else Status.CRASHED)
    assert last_lines(outcome.log) == ()
    with pytest.raises(OSError, match=r"regular|symbolic"):
        open_regular(outcome.log)


def test_files_that_are_planted(tmp_path: Path) -> None:
    """A pipe or a link where autotune writes is replaced, not opened."""
    outside = tmp_path / "outside"
    outside.write_text("mine")
    os.mkfifo(tmp_path / "windows.csv")
    (tmp_path / "events.jsonl").symlink_to(outside)
    write_whole(tmp_path / "windows.csv", "1")
    with create(tmp_path / "events.jsonl") as file:
        file.write(b"2")
    assert (tmp_path / "windows.csv").read_text() == "1"
    assert (tmp_path / "events.jsonl").read_text() == "2"
    assert outside.read_text() == "mine"


FILES = """
import os
FILES = [open(f"mine{i}.txt", "w") for i in range(12)]
for file in FILES:
    file.write("precious data\\n")
    file.flush()
"""


@pytest.mark.parametrize("end", [256, 1024, 4096, 65536])
def test_a_script_may_close_all_descriptors(
    run_script: RunScript, tmp_path: Path, mark: str, end: int
) -> None:
    """As daemons do: autotune's events never land in the files that it opens then."""
    outcome = run_script(f"import os\nos.closerange(3, {end})\n{FILES}\n{STEPS}")
    for number in range(12):
        assert (tmp_path / f"mine{number}.txt").read_text() == "precious data\n"
    if end <= 4096:
        assert outcome.status is Status.MEASURED, outcome.reason
    else:
        assert outcome.status is Status.CRASHED
        assert "all open files closed?" in outcome.reason
    assert others(mark) == []


def test_another_program_in_its_place(run_script: RunScript, mark: str) -> None:
    """os.exec closes the pipe; the reason says so at once, not after a time-out."""
    again = "import os, sys\nos.execv('/bin/sleep', ['sleep', '600'])\n"
    outcome = run_script(again, timing=replace(QUICK, start_timeout_s=60, grace_s=0.5))
    assert outcome.status is Status.CRASHED
    assert CLOSED in outcome.reason
    assert others(mark) == []


DAEMON = """
import os, signal, subprocess, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", "4243"], {})
    os._exit(0)
os.wait()
time.sleep(0.3)
os.kill(os.getppid(), signal.SIGKILL)  # the warden
time.sleep(600)
"""


def test_a_daemon_without_a_trace_does_not_survive_its_warden(run_script: RunScript) -> None:
    """Its environment is empty and its session its own: it is known by when it began."""
    outcome = run_script(DAEMON)
    assert outcome.status is not Status.MEASURED
    living = [one.info["cmdline"] for one in psutil.process_iter(["cmdline"])]
    assert ["sleep", "4243"] not in living
