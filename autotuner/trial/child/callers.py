"""Where in the user's code a call came from."""

from __future__ import annotations

import sys
from types import FrameType

_LIBRARIES = ("tensorflow", "keras", "tf_keras", "_autotune_child", "importlib", "contextlib")


def user_frame() -> FrameType | None:
    """Return the nearest frame that belongs neither to TensorFlow, keras nor this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.split(".", 1)[0] not in _LIBRARIES:
            return frame
        frame = frame.f_back
    return None


def user_line() -> str:
    """Return "file:line" of that frame, or "?"."""
    frame = user_frame()
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
