"""What a script offers to the knobs: its pipeline calls, its keras loops, its libraries.

Used in one short run before a study, never in a measured one. A site is identified by its line in
the user's code; pipelines that keras builds for arrays do not count.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Callable

from .callers import user_line
from .facts import OPENMP_LIBRARIES, mapped_files
from .keras_settings import batch_callbacks
from .pipeline import _called_by_keras_adapter, _stateful_ops, _why_sequential, is_keras_own

_MOST_SITES = 200
# kind: beginnings of file names
_LIBRARIES = {
    "openmp": OPENMP_LIBRARIES,
    "mkl": ("libmkl_rt", "libmkl_core"),
    "allocator": ("libtcmalloc", "libjemalloc", "libmimalloc"),
}


class Inspection:
    """Records pipeline calls and keras loops while the script runs."""

    def __init__(self) -> None:
        self._sites: dict[tuple[str, str], dict[str, Any]] = {}
        self._loops: dict[tuple[str, str], dict[str, Any]] = {}
        self._tensorflow: Any = None

    def install(self, tensorflow: Any) -> None:
        """Patch the methods that build and iterate datasets."""
        self._tensorflow = tensorflow
        dataset_class = tensorflow.data.Dataset
        for name, look in (
            ("map", self._look_at_map),
            ("interleave", self._look_at_interleave),
            ("batch", self._look_at_batch),
            ("padded_batch", None),
            ("prefetch", None),
        ):
            build = getattr(dataset_class, name)
            setattr(dataset_class, name, self._recording(build, name, look))
        dataset_class.__iter__ = self._recording_iteration(dataset_class.__iter__)
        dataset_class.reduce = self._recording_reduction(dataset_class.reduce)

    def install_keras(self, keras: Any) -> None:
        """Patch the loops of ``keras.Model``."""
        for loop in ("fit", "evaluate", "predict"):
            method = getattr(keras.Model, loop)
            setattr(keras.Model, loop, self._recording_loop(method, loop, keras.callbacks.Callback))

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON: ``sites``, ``loops``, ``libraries``."""
        return {
            "sites": [{"op": op, "where": at, **site} for (op, at), site in self._sites.items()],
            "loops": [{"loop": op, "where": at, **loop} for (op, at), loop in self._loops.items()],
            "libraries": mapped_libraries(),
        }

    def _recording(
        self, build: Callable[..., Any], name: str, look: Callable[..., dict[str, Any]] | None
    ) -> Callable[..., Any]:
        @functools.wraps(build)
        def recorded(dataset: Any, *args: Any, **kwargs: Any) -> Any:
            result = build(dataset, *args, **kwargs)
            if not _called_by_keras_adapter():
                self._record(name, {} if look is None else look(result, args, kwargs))
            return result

        return recorded

    def _record(self, op: str, found: dict[str, Any]) -> None:
        key = (op, user_line())
        if key in self._sites or len(self._sites) < _MOST_SITES:
            self._sites[key] = found

    def _look_at_map(self, built: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        calls = args[1] if len(args) > 1 else kwargs.get("num_parallel_calls")
        return {**self._parallel(calls), **_statefulness(built)}

    def _look_at_interleave(self, built: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        calls = args[3] if len(args) > 3 else kwargs.get("num_parallel_calls")
        return {**self._parallel(calls), **_statefulness(built)}

    def _look_at_batch(self, built: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        return self._parallel(args[2] if len(args) > 2 else kwargs.get("num_parallel_calls"))

    def _parallel(self, calls: Any) -> dict[str, Any]:
        if calls is None:
            return {"parallel": None}
        return {"parallel": "AUTOTUNE" if calls == self._tensorflow.data.AUTOTUNE else str(calls)}

    def _recording_iteration(self, start: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(start)
        def recorded(dataset: Any) -> Any:
            eager = self._tensorflow.executing_eagerly()
            by_keras = "iterate by keras" if is_keras_own(dataset) else "iterate"
            self._record(by_keras if eager else "iterate in graph", {})
            return start(dataset)

        return recorded

    def _recording_reduction(self, reduce: Callable[..., Any]) -> Callable[..., Any]:
        """A loop over a dataset inside a tf.function is converted to this call."""

        @functools.wraps(reduce)
        def recorded(dataset: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._tensorflow.executing_eagerly():
                self._record("iterate in graph", {})
            return reduce(dataset, *args, **kwargs)

        return recorded

    def _recording_loop(
        self, method: Callable[..., Any], loop: str, base: type
    ) -> Callable[..., Any]:
        @functools.wraps(method)
        def recorded(model: Any, *args: Any, **kwargs: Any) -> Any:
            self._loops.setdefault(
                (loop, user_line()),
                {
                    "batch_callbacks": batch_callbacks(loop, args, kwargs, base),
                    "run_eagerly": bool(getattr(model, "run_eagerly", False)),
                    "jit_compile": bool(getattr(model, "jit_compile", False) is True),
                },
            )
            return method(model, *args, **kwargs)

        return recorded


def _statefulness(built: Any) -> dict[str, Any]:
    try:
        stateful = _stateful_ops(built)
    except AttributeError:  # a wrapper that hides its function
        return {"stateful": [], "why_sequential": None}
    return {"stateful": sorted(stateful), "why_sequential": _why_sequential(stateful)}


def mapped_libraries() -> dict[str, list[str]]:
    """Return file names of mapped libraries that read variables of their own, by kind."""
    files = {os.path.basename(path) for path in mapped_files()}
    return {
        kind: sorted(f for f in files if f.startswith(beginnings))
        for kind, beginnings in _LIBRARIES.items()
    }
