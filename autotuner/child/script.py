"""Runs the user's script as Python itself would: as ``__main__``, with its own argv and path."""

from __future__ import annotations

import builtins
import os
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import Any


def compile_script(path: str) -> Any:
    """Return the script's code. Raises SyntaxError, ValueError or OSError."""
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def run_script(code: Any, path: str, arguments: list[str]) -> None:
    """Run the script to its end; its exceptions propagate.

    ``sys.path[0]``, which Python has set to the child's folder, becomes the script's folder.
    multiprocessing's spawn can find the main module by its file.
    """
    folder = os.path.dirname(os.path.realpath(path))  # links followed, as Python does
    if not getattr(
        sys.flags, "safe_path", False
    ):  # with PYTHONSAFEPATH the path has no such folder
        sys.path[0] = folder
    sys.argv[:] = [path, *arguments]
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__spec__ = None
    main.__package__ = None
    main.__cached__ = None  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    exec(code, main.__dict__)
