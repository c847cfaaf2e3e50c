"""CPU quotas, affinity and memory limits for real: bounds, proposals, exported values keep them."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import AUTOTUNE, write_best

SCRIPTS = Path(__file__).parents[1] / "end_to_end" / "scripts"
pytestmark = pytest.mark.real_tensorflow
ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
_ALL = sorted(os.sched_getaffinity(0))


class Cgroup:
    """A cgroup of either version, below this process's own where that is seen."""

    def __init__(self, name: str) -> None:
        self.is_v2 = (ROOT / "cgroup.controllers").exists()
        controllers = ("",) if self.is_v2 else ("cpu", "memory")
        self.folders = {c: ROOT / c / name for c in controllers}
        for folder in self.folders.values():
            folder.mkdir()

    def write(self, controller: str, file: str, text: str) -> None:
        """Write a limit."""
        (self.folders["" if self.is_v2 else controller] / file).write_text(text)

    def limit_cpus(self, cpus: float) -> None:
        """Set the CPU quota."""
        quota = round(cpus * PERIOD_US)
        if self.is_v2:
            self.write("cpu", "cpu.max", f"{quota} {PERIOD_US}")
        else:
            self.write("cpu", "cpu.cfs_period_us", str(PERIOD_US))
            self.write("cpu", "cpu.cfs_quota_us", str(quota))

    def limit_memory(self, size: int) -> None:
        """Set the memory limit in bytes."""
        name = "memory.max" if self.is_v2 else "memory.limit_in_bytes"
        self.write("memory", name, str(size))

    def enter(self) -> None:
        """Put this process in."""
        for folder in self.folders.values():
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def throttled(self) -> int:
        """Return in how many periods the quota has stopped the processes."""
        folder = self.folders["" if self.is_v2 else "cpu"]
        fields = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return int(fields["nr_throttled"])

    def remove(self) -> None:
        """Take it away."""
        for folder in self.folders.values():
            folder.rmdir()


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """Return a cgroup of our own."""
    try:
        made = Cgroup(f"autotune-test-{os.getpid()}")
        made.limit_cpus(1.0)
        made.limit_memory(8 * 2**30)
    except OSError as error:
        pytest.skip(f"no cgroup may be made here: {error}")
    yield made
    made.remove()


def run(
    folder: Path, *arguments: str, into: Callable[[], None]
) -> "subprocess.CompletedProcess[str]":
    """Run a command line in a process that does something before."""
    return subprocess.run(
        [*AUTOTUNE, *arguments],
        cwd=folder,
        preexec_fn=into,
        capture_output=True,
        text=True,
        timeout=300,
    )


def doctor(folder: Path, into: Callable[[], None]) -> dict[str, Any]:
    """Return the doctor's findings there."""
    done = run(folder, "doctor", "--json", "--measure-time", "0.3s", into=into)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(document: dict[str, Any]) -> dict[str, str]:
    """Return states by knob."""
    return {one["knob"]: one["state"] for one in document["liveness"]}


needs_two = pytest.mark.skipif(len(_ALL) < 2, reason="there is one CPU only")


@needs_two
def test_a_quota_of_one_cpu(tmp_path: Path, cgroup: Cgroup) -> None:
    """TensorFlow starts a thread for each CPU of the affinity; the doctor advises a number."""
    document = doctor(tmp_path, cgroup.enter)
    machine = document["machine"]
    assert machine["quota_cpus"] == 1.0
    assert machine["affinity_cpus"] == len(_ALL)
    assert machine["memory_bytes"] == 8 * 2**30
    assert machine["memory_limited"] is True
    assert document["evidence"]["threads"]["tf_Compute"] >= len(_ALL)
    assert states(document)["intra_op"] == "live"
    advice = {cause["kind"]: cause for cause in document["advice"]}
    assert "export TF_NUM_INTRAOP_THREADS=1" in advice["quota_ignored"]["advice"]


@pytest.mark.long
@needs_two
def test_a_study_under_a_quota(tmp_path: Path, cgroup: Cgroup) -> None:
    """What is proposed and exported keeps within the quota; the defaults were throttled."""
    line = ["run", "--model", str(SCRIPTS / "function_loop.py"), "--trials", "3", "--pairs", "0"]
    more = ["--effort", "fast", "--measure-time", "0.5s", "--export-anyway", "--sequential"]
    more += ["--warm", "on"]
    done = run(tmp_path, *line, *more, into=cgroup.enter)
    assert done.returncode == 0, done.stderr
    assert "CPU quota 1" in done.stderr
    assert cgroup.throttled() > 0
    document = json.loads((tmp_path / ".autotune/studies/function_loop/best.json").read_text())
    assert document["machine"]["quota_cpus"] == 1.0
    best = document["result"]["best"]["configuration"]
    assert (best["intra_op"], best["inter_op"]) == (1, 1)
    assert document["result"]["default"]["configuration"]["intra_op"] == len(_ALL)
    patch = run(
        tmp_path,
        "export",
        "function_loop",
        "--format",
        "kubernetes",
        "--export-anyway",
        into=cgroup.enter,
    )
    assert 'cpu: "1"' in patch.stdout


@needs_two
def test_both_together(tmp_path: Path, cgroup: Cgroup) -> None:
    """With one CPU there is nothing for threads to choose, and a file made with two is foreign."""
    cgroup.limit_cpus(1.5)

    def into() -> None:
        os.sched_setaffinity(0, _ALL[:1])
        cgroup.enter()

    document = doctor(tmp_path, into)
    assert (document["machine"]["quota_cpus"], document["machine"]["affinity_cpus"]) == (1.5, 1)
    assert states(document)["intra_op"] == "inert"
    assert states(document)["cpus"] == "inert"
    here = {**document["machine"], "affinity_cpus": 2, "quota_cpus": None}
    best = write_best(tmp_path, {"intra_op": 1}, machine=here)
    done = run(tmp_path, "exec", str(best), "--", "true", into=into)
    assert done.returncode == 1
    assert "usable CPUs: 2 there, 1 here" in done.stderr
