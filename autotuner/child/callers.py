"""The line of the user's code that a call comes from."""

from __future__ import annotations

import os
import sys
import sysconfig
from types import FrameType

_OWN = os.path.dirname(os.path.abspath(__file__))
# libraries wrap loops (tqdm) and calls; the user can't change their lines
_LIBRARIES = tuple(
    path + os.sep
    for path in (_OWN, *(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib")))
)


_GENERATED = "__autograph_generated_file"


def user_line() -> str:
    """Return "file:line" of the nearest frame outside all installed libraries, or "?".

    The script's folder counts as the user's even inside the installed libraries, where reference
    workloads are. TensorFlow rewrites the code of a tf.function and knows the original line.
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
