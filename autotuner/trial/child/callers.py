"""Where in the user's code a call came from."""

from __future__ import annotations

import os
import sys
import sysconfig
from types import FrameType

_OWN = os.path.dirname(os.path.abspath(__file__))
# libraries wrap loops (tqdm) and calls: their lines are not the ones that a user can change
_LIBRARIES = tuple(
    path + os.sep
    for path in (_OWN, *(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib")))
)


def user_line() -> str:
    """Return "file:line" of the nearest frame outside of all installed libraries, or "?".

    The script's folder is the user's, even where it lies among them, as reference workloads do.
    """
    script = getattr(sys.modules["__main__"], "__file__", None) or ""
    own = os.path.dirname(script) + os.sep
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(own) or not file.startswith((*_LIBRARIES, "<")):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
