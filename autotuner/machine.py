"""Facts about this machine that bound the knobs.

TensorFlow sizes its pools by CPU affinity and ignores CPU quotas (tensorflow#17206), so in a
container with a quota its defaults oversubscribe. Every bound here is therefore
``min(affinity, ceil(quota))``, with the quota read from cgroup v2 or v1.
"""

import dataclasses
import math
import os
import platform
import socket
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What can limit a TensorFlow process here.

    ``affinity_cpus``: CPUs this process may run on. ``quota_cpus``: CPU time per wall time that
    the cgroup allows, None without a quota. ``physical_cores``: cores behind ``affinity_cpus``,
    SMT siblings counted once. ``memory_bytes``: RAM or the cgroup's limit, whichever is smaller.
    """

    host: str
    cpu_model: str
    affinity_cpus: int
    physical_cores: int
    sockets: int
    quota_cpus: float | None
    memory_bytes: int

    @property
    def usable_cpus(self) -> int:
        """Upper bound for every thread knob: ``min(affinity, ceil(quota))``, at least 1."""
        if self.quota_cpus is None:
            return self.affinity_cpus
        return max(1, min(self.affinity_cpus, math.ceil(self.quota_cpus)))

    @property
    def usable_cores(self) -> int:
        """Physical cores within the quota, at least 1."""
        return max(1, min(self.physical_cores, self.usable_cpus))

    def describe(self) -> str:
        """Return one line for people."""
        quota = f", CPU quota {self.quota_cpus:g}" if self.quota_cpus is not None else ""
        return (
            f"{self.cpu_model}, {self.affinity_cpus} CPUs on {self.physical_cores} cores{quota}, "
            f"{self.memory_bytes / 2**30:.0f} GiB"
        )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _cgroup_folders(proc: Path, cgroup: Path, controller: str) -> tuple[list[Path], bool]:
    """Return this process's cgroup folder and its parents, and whether they are of version 2."""
    for line in (_read(proc / "self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and (cgroup / controller).is_dir():
            root = cgroup / controller
            break
        if controllers == "" and (cgroup / "cgroup.controllers").exists():
            root = cgroup
            break
    else:
        return [], False
    inner = root / path.lstrip("/")
    folders = [inner, *inner.parents]
    # in a container the path is the host's and does not exist here: the root is then our own
    within = [f for f in folders if f == root or root in f.parents]
    return [f for f in within if f.is_dir()], root == cgroup


def read_cpu_quota(*, proc: Path = _PROC, cgroup: Path = _CGROUP) -> float | None:
    """Return the tightest CPU quota of this process's cgroup and its parents, in CPUs.

    Reads ``cpu.max`` (cgroup v2) or ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` (v1). None
    means that there is no quota.
    """
    folders, is_v2 = _cgroup_folders(proc, cgroup, "cpu")
    quotas = []
    for folder in folders:
        if is_v2:
            quota, _, period = (_read(folder / "cpu.max") or "max 100000").partition(" ")
        else:
            quota = _read(folder / "cpu.cfs_quota_us") or "-1"
            period = _read(folder / "cpu.cfs_period_us") or "100000"
        if quota not in ("max", "-1"):
            quotas.append(int(quota) / int(period or "100000"))
    return min(quotas, default=None)


def read_cpu_throttling(*, proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """Return in how many periods so far a CPU quota has stopped this process's cgroups."""
    folders, _ = _cgroup_folders(proc, cgroup, "cpu")
    total = 0
    for folder in folders:
        for line in (_read(folder / "cpu.stat") or "").splitlines():
            if line.startswith("nr_throttled "):
                total += int(line.split()[1])
    return total


def read_memory_limit(*, proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Return the tightest memory limit of this process's cgroup and its parents, in bytes."""
    folders, is_v2 = _cgroup_folders(proc, cgroup, "memory")
    name = "memory.max" if is_v2 else "memory.limit_in_bytes"
    texts = [_read(folder / name) for folder in folders]
    limits = [int(text) for text in texts if text is not None and text.isdecimal()]
    # version 1 writes "no limit" as a number near 2**63
    return min((limit for limit in limits if limit < 2**60), default=None)


def count_oom_kills(*, proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """Return how often the kernel has killed for want of memory, here and machine-wide."""
    folders, is_v2 = _cgroup_folders(proc, cgroup, "memory")
    files = [f / ("memory.events" if is_v2 else "memory.oom_control") for f in folders]
    total = 0
    for file in [*files, proc / "vmstat"]:
        for line in (_read(file) or "").splitlines():
            if line.startswith("oom_kill "):
                total += int(line.split()[1])
    return total


def _cpu_topology(proc: Path, allowed: set[int]) -> tuple[str, int, int]:
    """Return the CPU's model name, physical cores and sockets among the allowed CPUs."""
    model, cores, packages = "", set(), set()
    for block in (_read(proc / "cpuinfo") or "").split("\n\n"):
        fields = {
            key.strip(): value.strip()
            for key, _, value in (line.partition(":") for line in block.splitlines())
        }
        if fields.get("processor", "").isdecimal() and int(fields["processor"]) in allowed:
            package = fields.get("physical id", "0")
            packages.add(package)
            cores.add((package, fields.get("core id", fields["processor"])))
            model = model or fields.get("model name", "")
    physical = len(cores) or min(len(allowed), psutil.cpu_count(logical=False) or len(allowed))
    return model or platform.processor() or platform.machine(), physical, max(1, len(packages))


def inspect_machine() -> Machine:
    """Return the facts about this machine as this process sees it."""
    if hasattr(os, "sched_getaffinity"):
        allowed = set(os.sched_getaffinity(0))
    else:  # macOS has no affinity
        allowed = set(range(os.cpu_count() or 1))
    model, physical, sockets = _cpu_topology(_PROC, allowed)
    total = psutil.virtual_memory().total
    return Machine(
        host=socket.gethostname(),
        cpu_model=model,
        affinity_cpus=len(allowed),
        physical_cores=physical,
        sockets=sockets,
        quota_cpus=read_cpu_quota(),
        memory_bytes=min(total, read_memory_limit() or total),
    )
