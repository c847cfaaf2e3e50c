"""Facts about this process: versions, threads, libraries, memory, CPU time."""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any

# tensorflow comes last: other distributions may install an empty one of that name
_PACKAGES = (
    "intel-tensorflow",
    "intel-tensorflow-avx512",
    "tensorflow-cpu",
    "tf-nightly",
    "tensorflow",
)
_FOR_WARM_PARENTS = ("tensorflow", "keras", "tf_keras")
OPENMP_LIBRARIES = ("libiomp5", "libomp", "libgomp")


def tensorflow_facts(tensorflow: Any) -> dict[str, Any]:
    """Return the version, the distribution and oneDNN's state; runs no op."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        onednn: bool | None = bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):
        onednn = None
    return {
        "tensorflow": tensorflow.__version__,
        "onednn": onednn,
        "package": _package(tensorflow.__version__),
    }


def _package(version: str) -> str:
    """Return the name of the distribution that this TensorFlow was installed from."""
    from importlib import metadata

    base = version.split("-")[0].split("+")[0]
    for name in _PACKAGES:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if found.startswith(base):
            return name
    return ""


def keras_version() -> str:
    """Return the version of the loaded keras, or an empty string."""
    for name in ("tf_keras", "keras"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            return str(version)
    return ""


def thread_pools() -> dict[str, int]:
    """Count this process's threads by name: ``tf_Compute`` is the inter-op pool."""
    counts: dict[str, int] = {}
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        return counts
    for task in tasks:
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                name = file.read().strip()
        except OSError:
            continue
        counts[name] = counts.get(name, 0) + 1
    return counts


def mapped_files() -> list[str]:
    """Return the sorted paths of all files mapped into this process."""
    try:
        with open("/proc/self/maps", errors="replace") as maps:
            return sorted({line.split()[-1] for line in maps if "/" in line})
    except OSError:
        return []


def openmp_runtime() -> str | None:
    """Return the file name of an OpenMP runtime mapped into this process, or None."""
    files = sorted(os.path.basename(path) for path in mapped_files())
    for library in OPENMP_LIBRARIES:
        for file in files:
            if file.startswith((library + ".", library + "-")):
                return file
    return None


def process_facts() -> dict[str, Any]:
    """Return the facts for the ``done`` event."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "keras": keras_version(),
        "imported": [name for name in _FOR_WARM_PARENTS if name in sys.modules],
        "thread_pools": thread_pools(),
        "openmp": openmp_runtime(),
        "peak_rss_bytes": usage.ru_maxrss * scale,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def usage_so_far() -> dict[str, float]:
    """Return counters; their difference over a measurement is its cost.

    ``own_cpu_s``: CPU time of this process and all others of its session, such as workers.
    ``machine_cpu_s``: CPU time of everything on the machine; absent where /proc lacks it.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    counters = {
        "wall_s": time.monotonic(),
        "own_cpu_s": usage.ru_utime + usage.ru_stime,
        "voluntary_switches": float(usage.ru_nvcsw),
        "involuntary_switches": float(usage.ru_nivcsw),
    }
    try:
        counters["own_cpu_s"] = _session_cpu_s()
        counters["machine_cpu_s"] = _machine_cpu_s()
    except (OSError, ValueError, IndexError):
        pass
    return counters


def _session_cpu_s() -> float:
    session, ticks = os.getsid(0), 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()  # a name may hold spaces
            except OSError:
                continue  # the process has ended
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _machine_cpu_s() -> float:
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, *_ = (int(x) for x in file.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
