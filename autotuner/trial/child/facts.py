"""What can be read about the process at the end of a measurement."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

_OPENMP_LIBRARIES = ("libiomp5", "libomp", "libgomp")


def tensorflow_facts(tensorflow: Any) -> dict[str, Any]:
    """Return the versions and oneDNN's state; imports nothing that runs an op."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        onednn: bool | None = bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):
        onednn = None
    return {"tensorflow": tensorflow.__version__, "onednn": onednn}


def keras_version() -> str:
    """Return the version of the keras that is loaded, or an empty text."""
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


def openmp_runtime() -> str | None:
    """Return the file name of an OpenMP runtime that is mapped into this process, or None."""
    try:
        with open("/proc/self/maps", errors="replace") as maps:
            files = {os.path.basename(line.split()[-1]) for line in maps if "/" in line}
    except OSError:
        return None
    for library in _OPENMP_LIBRARIES:
        for file in sorted(files):
            if file.startswith((library + ".", library + "-")):
                return file
    return None


def process_facts(*, datasets_built: int) -> dict[str, Any]:
    """Return what the parent wants to know when the measurement is over."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "keras": keras_version(),
        "datasets_built": datasets_built,
        "thread_pools": thread_pools(),
        "openmp": openmp_runtime(),
        "peak_rss_bytes": usage.ru_maxrss * scale,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }
