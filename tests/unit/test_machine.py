"""Bounds from affinity, quota and memory limits, read from fake cgroup trees."""

from pathlib import Path

import pytest

from autotuner.machine.host import (
    count_oom_kills,
    inspect_machine,
    read_cpu_quota,
    read_memory_limit,
)
from tests.fakes import machine


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(8, None, 8), (8, 4.0, 4), (8, 2.5, 3), (8, 0.5, 1), (2, 16.0, 2)],
)
def test_usable_cpus(affinity: int, quota: float | None, usable: int) -> None:
    """The bound is min(affinity, ceil(quota)), at least one."""
    assert machine(affinity, quota).usable_cpus == usable


def put(root: Path, files: dict[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_quota_v2_takes_the_tightest_of_the_parents(tmp_path: Path) -> None:
    """A quota of any parent cgroup applies."""
    put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "cg/cgroup.controllers": "cpu memory",
            "cg/a/cpu.max": "150000 100000",
            "cg/a/b/cpu.max": "max 100000",
            "cg/a/memory.max": "1000000",
            "cg/a/b/memory.max": "max",
            "cg/a/b/memory.events": "low 0\noom 1\noom_kill 3\n",
            "proc/vmstat": "nr_free 1\noom_kill 5\n",
        },
    )
    where = {"proc": tmp_path / "proc", "cgroup": tmp_path / "cg"}
    assert read_cpu_quota(**where) == 1.5
    assert read_memory_limit(**where) == 1_000_000
    assert count_oom_kills(**where) == 8


def test_quota_v1(tmp_path: Path) -> None:
    """Version 1 has a folder for each controller, and writes "none" as -1 or a huge number."""
    put(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/x\n2:memory:/x\n",
            "cg/cpu/x/cpu.cfs_quota_us": "200000",
            "cg/cpu/x/cpu.cfs_period_us": "100000",
            "cg/cpu/cpu.cfs_quota_us": "-1",
            "cg/memory/x/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    where = {"proc": tmp_path / "proc", "cgroup": tmp_path / "cg"}
    assert read_cpu_quota(**where) == 2.0
    assert read_memory_limit(**where) is None


def test_in_a_container_the_host_s_path_is_not_there(tmp_path: Path) -> None:
    """If the path in /proc/self/cgroup is the host's, the root is this process's cgroup."""
    put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/docker/abc\n",
            "cg/cgroup.controllers": "cpu",
            "cg/cpu.max": "50000 100000",
        },
    )
    assert read_cpu_quota(proc=tmp_path / "proc", cgroup=tmp_path / "cg") == 0.5


def test_no_cgroups(tmp_path: Path) -> None:
    """Without cgroups there is no quota and no limit."""
    where = {"proc": tmp_path / "proc", "cgroup": tmp_path / "cg"}
    assert read_cpu_quota(**where) is None
    assert read_memory_limit(**where) is None
    assert count_oom_kills(**where) == 0


def test_this_machine() -> None:
    """The facts about the machine that runs the tests are plausible."""
    here = inspect_machine()
    assert 1 <= here.usable_cores <= here.usable_cpus <= here.affinity_cpus
    assert here.memory_bytes > 2**28
    assert str(here.affinity_cpus) in here.describe()
