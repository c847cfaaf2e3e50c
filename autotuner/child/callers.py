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


_GENERATED = "__autograph_generated_file"


def user_line() -> str:
    """Return "file:line" of the nearest frame outside of all installed libraries, or "?".

    The script's folder is the user's, even where it lies among them, as reference workloads do.
    Code that a tf.function runs was written anew by TensorFlow, which knows the line it came from.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if os.path.basename(file).startswith(_GENERATED):
            return _line_before_conversion()
        if _is_user_file(file):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def _is_user_file(file: str) -> bool:
    script = getattr(sys.modules["__main__"], "__file__", None) or ""
    own = os.path.dirname(script) + os.sep
    return file.startswith(own) or not file.startswith((*_LIBRARIES, "<"))


def _line_before_conversion() -> str:
    try:
        from tensorflow.python.util import tf_stack
    except ImportError:
        return "?"
    for frame in reversed(tf_stack.extract_stack()):
        if _is_user_file(frame.filename):
            return f"{frame.filename}:{frame.lineno}"
    return "?"
