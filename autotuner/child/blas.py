"""numpy after a fork: its random numbers and its OpenBLAS threads.

A warm parent imports numpy with one OpenBLAS thread, because threads do not survive a fork.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any

from . import facts

_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")  # the first takes precedence
_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads",
)


def make_as_imported(numpy: Any) -> None:
    """Reseed numpy, and give OpenBLAS the threads that it would have started at its import."""
    numpy.random.seed()  # otherwise every trial would draw the same numbers
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
