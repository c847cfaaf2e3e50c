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
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_SYS = Path("/sys")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """The limits of a TensorFlow process here.

    ``affinity_cpus``: CPUs this process may run on. ``quota_cpus``: CPU time per wall time that
    the cgroup allows, None without a quota. ``physical_cores``: cores behind ``affinity_cpus``,
    SMT siblings counted once. ``memory_bytes``: RAM or the cgroup's limit, whichever is smaller;
    ``memory_limited``: the limit is smaller. ``isa``: the widest vector instructions. ``governor``:
    of the clock frequency, None if not visible. ``cpu_sets``: subsets of the CPUs to which a
    process may be bound, as lists like "0-3,8". ``allocators``: files of tcmalloc, jemalloc and
    mimalloc that can be preloaded.
    """

    host: str
    cpu_model: str
    affinity_cpus: int
    physical_cores: int
    sockets: int
    quota_cpus: float | None
    memory_bytes: int
    numa_nodes: int = 1
    memory_limited: bool = False
    isa: str = ""
    governor: str | None = None
    cpu_sets: tuple[str, ...] = ()
    allocators: tuple[str, ...] = ()

    @property
    def has_smt(self) -> bool:
        """Whether some of the CPUs share a core."""
        return self.affinity_cpus > self.physical_cores

    @property
    def usable_cpus(self) -> int:
        """The upper bound of every thread knob: ``min(affinity, ceil(quota))``, at least 1."""
        if self.quota_cpus is None:
            return self.affinity_cpus
        return max(1, min(self.affinity_cpus, math.ceil(self.quota_cpus)))

    @property
    def usable_cores(self) -> int:
        """The physical cores within the quota, at least 1."""
        return max(1, min(self.physical_cores, self.usable_cpus))

    def describe(self) -> str:
        """Return a one-line description for people."""
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
    # in a container the path is the host's and does not exist here: the root is the container's
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
    """Return the number of periods in which a CPU quota has stopped this process's cgroups."""
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
    """Return the number of kills for lack of memory, in this cgroup and machine-wide."""
    folders, is_v2 = _cgroup_folders(proc, cgroup, "memory")
    files = [f / ("memory.events" if is_v2 else "memory.oom_control") for f in folders]
    total = 0
    for file in [*files, proc / "vmstat"]:
        for line in (_read(file) or "").splitlines():
            if line.startswith("oom_kill "):
                total += int(line.split()[1])
    return total


@dataclasses.dataclass(frozen=True, order=True)
class Cpu:
    """A logical CPU: its number, socket, NUMA node and core."""

    number: int
    socket: str = "0"
    node: int = 0
    core: str = ""


def read_cpus(allowed: set[int], *, proc: Path = _PROC, sys: Path = _SYS) -> tuple[list[Cpu], str]:
    """Return the allowed CPUs, and the text of /proc/cpuinfo for the first."""
    cpus, first = [], ""
    for block in (_read(proc / "cpuinfo") or "").split("\n\n"):
        fields = _fields(block)
        number = fields.get("processor", "")
        if not number.isdecimal() or int(number) not in allowed:
            continue
        first = first or block
        nodes = (sys / f"devices/system/cpu/cpu{number}").glob("node[0-9]*")
        node = next((int(found.name.removeprefix("node")) for found in nodes), 0)
        cpus.append(
            Cpu(int(number), fields.get("physical id", "0"), node, fields.get("core id", number))
        )
    if not cpus:  # no /proc, or one without processors
        cpus = [Cpu(number, core=str(number)) for number in sorted(allowed)]
    return cpus, first


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_sets(cpus: Sequence[Cpu]) -> tuple[str, ...]:
    """Return proper subsets of the CPUs that are worth binding a process to, as lists.

    These are the first 1, 2, 4, ... cores without their SMT siblings, one NUMA node after the
    other; and each NUMA node alone, if there are several.
    """
    by_core: dict[tuple[str, str], Cpu] = {}
    for cpu in sorted(cpus, key=lambda cpu: (cpu.node, cpu.socket, cpu.number)):
        by_core.setdefault((cpu.socket, cpu.core), cpu)
    cores = [cpu.number for cpu in by_core.values()]
    sizes = [2**k for k in range(len(cores).bit_length()) if 2**k <= len(cores)]
    parts = [cores[:size] for size in sizes] + [cores]
    nodes = sorted({cpu.node for cpu in cpus})
    if len(nodes) > 1:
        parts += [[cpu.number for cpu in cpus if cpu.node == node] for node in nodes]
    texts = (cpu_list(part) for part in parts if len(part) < len(cpus))
    return tuple(dict.fromkeys(texts))


def cpu_list(numbers: Iterable[int]) -> str:
    """Return CPU numbers as the kernel and taskset write them: "0-3,8"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Return the CPUs of a list like "0-3,8".

    Raises:
        ValueError: if the text is not a list of CPUs.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(numbers)


_ISA = (  # flag in /proc/cpuinfo, its common name; the widest first
    ("amx_tile", "AMX"),
    ("avx512_bf16", "AVX-512 with BF16"),
    ("avx512_vnni", "AVX-512 with VNNI"),
    ("avx512f", "AVX-512"),
    ("avx_vnni", "AVX2 with VNNI"),
    ("avx2", "AVX2"),
    ("avx", "AVX"),
    ("sse4_1", "SSE4.1"),
    ("asimd", "NEON"),
)
_ALLOCATORS = ("libtcmalloc_minimal.so*", "libtcmalloc.so*", "libjemalloc.so*", "libmimalloc.so*")
_LIBRARY_FOLDERS = ("usr/lib", "usr/lib64", "usr/local/lib", "usr/lib/*-linux-gnu", "opt/conda/lib")


def find_allocators(root: Path = Path("/")) -> tuple[str, ...]:
    """Return one file of each allocator that is installed in the linker's folders."""
    found = []
    for pattern in _ALLOCATORS:
        files = [file for folder in _LIBRARY_FOLDERS for file in root.glob(f"{folder}/{pattern}")]
        # the shortest name is a link, which stays when the library is updated
        found += sorted((str(file) for file in files), key=lambda name: (len(name), name))[:1]
    return tuple(found)


def inspect_machine() -> Machine:
    """Return the facts about this machine as this process sees it."""
    if hasattr(os, "sched_getaffinity"):
        allowed = set(os.sched_getaffinity(0))
    else:  # macOS has no affinity
        allowed = set(range(os.cpu_count() or 1))
    cpus, first = read_cpus(allowed)
    fields = _fields(first)
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    cores = len({(cpu.socket, cpu.core) for cpu in cpus})
    if not first:
        cores = min(len(allowed), psutil.cpu_count(logical=False) or len(allowed))
    total, limit = psutil.virtual_memory().total, read_memory_limit()
    return Machine(
        host=socket.gethostname(),
        cpu_model=fields.get("model name") or platform.processor() or platform.machine(),
        affinity_cpus=len(allowed),
        physical_cores=cores,
        sockets=len({cpu.socket for cpu in cpus}),
        quota_cpus=read_cpu_quota(),
        memory_bytes=min(total, limit or total),
        numa_nodes=len({cpu.node for cpu in cpus}),
        memory_limited=limit is not None and limit < total,
        isa=next((name for flag, name in _ISA if flag in flags), ""),
        governor=_read(_SYS / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        cpu_sets=cpu_sets(cpus),
        allocators=find_allocators(),
    )
