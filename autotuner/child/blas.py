"""numpy in a process whose parent has imported it: its random numbers and its threads.

A warm parent imports numpy with one thread of OpenBLAS, as threads do not survive a fork.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any

from . import facts

_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")  # the first beats the second
_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads",
)


def make_as_imported(numpy: Any) -> None:
    """Give numpy new random numbers, and the threads that it would have taken at its import."""
    numpy.random.seed()  # else every trial would draw the same ones
    threads = _wanted_threads()
    for path in facts.mapped_files():
        if "openblas" not in os.path.basename(path):
            continue
        library = ctypes.CDLL(path)
        for name in _SETTERS:
            setter = getattr(library, name, None)
            if setter is not None:
                setter(ctypes.c_int(threads))
                break


def _wanted_threads() -> int:
    for name in _VARIABLES:
        found = os.environ.get(name, "")
        if re.fullmatch(r"[1-9][0-9]*", found):
            return int(found)
    return len(os.sched_getaffinity(0))
