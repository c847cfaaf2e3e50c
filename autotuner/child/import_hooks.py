"""Hooks that run before and after a module is imported, without importing it themselves.

The script must import TensorFlow itself: it may first set variables that are read at the import
(TF_CPP_MIN_LOG_LEVEL, CUDA_VISIBLE_DEVICES, TF_USE_LEGACY_KERAS).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any, Callable

Hook = Callable[[], None]
ModuleHook = Callable[[Any], None]


class ImportHooks:
    """A finder at the front of ``sys.meta_path`` that wraps the loading of a few modules."""

    def __init__(self, before: dict[str, Hook], after: dict[str, ModuleHook]) -> None:
        self._before = before
        self._after = after
        self._searching: set[str] = set()

    def install(self) -> None:
        """Put the finder first."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        """Find a watched module through the other finders and wrap its loader's exec_module."""
        if (name not in self._before and name not in self._after) or name in self._searching:
            return None
        self._searching.add(name)
        try:
            spec = self._search(name, path, target)
        finally:
            self._searching.discard(name)
        if spec is not None and spec.loader is not None:
            self._wrap(name, spec.loader)
        return spec

    def _search(self, name: str, path: Sequence[str] | None, target: Any) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                return spec
        return None

    def _wrap(self, name: str, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            self._before.get(name, _nothing)()
            # the wrapper is used once: afterwards the module's loader is unchanged
            del loader.exec_module
            execute(module)
            hook = self._after.get(name)
            if hook is not None:
                hook(module)

        loader.exec_module = exec_module


def _nothing() -> None:
    """Stand in for a missing hook."""
