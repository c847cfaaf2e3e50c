"""The child's session: read the request, install the hooks, run the script, report."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
import traceback
import types
from typing import Any, Callable

from . import blas, facts, keras_settings, keras_steps, overrides, pipeline
from .callers import user_line
from .event_pipe import EventPipe, OrderPipe
from .feed import replace_elements
from .import_hooks import ImportHooks
from .inspection import Inspection
from .meter import MeterRule
from .script import compile_script, run_script
from .steps import STEP, MeasurementComplete, StepFinder
from .tf_steps import CallSteps, DatasetSteps
from .values import Seeds

_SCHEMA = 1


def run(
    request_path: str,
    events_descriptor: int,
    orders_descriptor: int | None,
    *,
    forked: bool = False,
) -> None:
    """Carry out the request; end the process with the script's exit code.

    ``forked``: a warm parent forked the process.
    """
    pipe = EventPipe(events_descriptor)
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    if request["schema"] != _SCHEMA:
        raise ValueError(f"the request has schema {request['schema']}, this child reads {_SCHEMA}")
    pipe.emit(
        "hello",
        python=".".join(str(part) for part in sys.version_info[:3]),
        executable=sys.executable,
        pid=os.getpid(),
        forked=forked,
    )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # as on a terminal, so that a killed script's last lines are logged
            stream.reconfigure(line_buffering=True)
    if request["cpus"] is not None:
        os.sched_setaffinity(0, request["cpus"])
    try:
        code = compile_script(request["script"])
    except (SyntaxError, ValueError) as error:
        where = "{}:{}".format(request["script"], getattr(error, "lineno", None) or "?")
        pipe.emit("error", kind="syntax", text=getattr(error, "msg", str(error)), where=where)
        sys.exit(1)
    except OSError as error:
        pipe.emit("error", kind="script", text=error.strerror, where=request["script"])
        sys.exit(1)
    if request["kind"] == "probe":
        _probe(pipe)
    else:
        _Trial(request, pipe, OrderPipe(orders_descriptor)).run(code)
        if pipe.is_open:  # not in a process that the script has forked
            _leave()


def _leave() -> None:
    """End the process as Python does, but without freeing its modules.

    Wait for threads and run atexit handlers, those of multiprocessing and weakref included. Freeing
    TensorFlow's objects one by one would take another 0.7 s.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the script has closed it
            continue
    os._exit(0)


def _probe(pipe: EventPipe) -> None:
    try:
        import tensorflow
    except BaseException as error:  # noqa: BLE001 - an import can fail in any way; the failure is the result
        pipe.emit("error", kind="tensorflow", text=f"{type(error).__name__}: {error}", where="")
        sys.exit(1)
    pipe.emit("tensorflow", **facts.tensorflow_facts(tensorflow))
    pipe.emit("done", result="no_steps", facts={"openmp": facts.openmp_runtime()})


class _Trial:
    """One run of the script with hooks."""

    def __init__(self, request: dict[str, Any], pipe: EventPipe, orders: OrderPipe) -> None:
        self._request = request
        self._pipe = pipe
        measurement = request["measurement"]
        self._finder = StepFinder(
            pipe,
            MeterRule(**{field: measurement[field] for field in MeterRule._fields}),
            source=measurement["source"],
            phase=measurement["phase"],
            usage=facts.usage_so_far,
            orders=orders,
            facts=self._facts,
        )
        self._inspection = Inspection() if request["inspect"] else None
        recorded = request["record_values"]
        self._finder.values_wanted = 0 if recorded is None else recorded["executions"]
        self._seeds = None if recorded is None else Seeds(recorded["seed"])
        self._datasets = DatasetSteps(self._finder)
        self._calls = CallSteps(self._finder)

    def run(self, code: Any) -> None:
        """Run the script and report how it ended."""
        script = self._request["script"]
        hold = self._hold = overrides.hold_environment(
            script, self._request["environment"], self._pipe
        )
        after = {
            "numpy": self._numpy_imported,
            "tensorflow": self._tensorflow_imported,
            "keras": self._keras_imported,
            "tf_keras": self._keras_imported,
        }
        ImportHooks(before={"numpy": hold, "tensorflow": hold}, after=after).install()
        for name, hook in after.items():
            if name in sys.modules:  # a warm parent has imported it
                if name == "numpy":
                    blas.make_as_imported(sys.modules[name])
                hook(sys.modules[name])
        _offer_step(self._finder)
        start = time.monotonic()
        try:
            run_script(code, script, self._request["arguments"])
        except MeasurementComplete:
            return
        except SystemExit as error:
            if not self._pipe.is_open:  # a process that the script has forked
                raise
            if self._finder.finished:
                return
            if error.code not in (None, 0):
                text = f"the script ended with exit code {error.code}"
                if isinstance(error.code, str):  # a message; Python prints it and exits with 1
                    text = f"the script ended with sys.exit({error.code!r})"
                self._pipe.emit("error", kind="exit", text=text, where="")
                raise
        except BaseException as error:
            if self._finder.finished or not self._pipe.is_open:
                raise
            self._report(error)
            sys.exit(1)
        if not self._pipe.is_open:
            return
        if "tensorflow" not in sys.modules and self._finder.falls_back_to_process():
            text = "the script ended without importing TensorFlow"
            self._pipe.emit("error", kind="script", text=text, where=script)
            sys.exit(1)
        self._finder.script_ended(time.monotonic() - start)

    def _facts(self) -> dict[str, Any]:
        found = facts.process_facts()
        if self._inspection is not None:
            found["inspection"] = self._inspection.facts()
        return found

    def _numpy_imported(self, numpy: Any) -> None:
        if self._seeds is not None:
            self._seeds.numpy(numpy)

    def _tensorflow_imported(self, tensorflow: Any) -> None:
        if self._seeds is not None:
            self._seeds.tensorflow(tensorflow)
        self._pipe.emit("tensorflow", **facts.tensorflow_facts(tensorflow))
        overrides.hold_threads(self._pipe)
        overrides.hold_until_first_op(self._hold)
        pipeline.apply_data_settings(**self._request["pipeline"], notice=self._notice)
        if self._request["feed"] != "real":
            replace_elements(tensorflow, self._request["feed"], self._notice)
        self._datasets.install(tensorflow)
        if self._inspection is not None:
            self._inspection.install(tensorflow)
        self._calls.install(tensorflow)

    def _keras_imported(self, keras: Any) -> None:
        if self._seeds is not None:
            self._seeds.keras(keras)
        if hasattr(keras, "Model"):
            keras_steps.install(keras, self._finder)
            self._calls.install_model(keras)
            if self._inspection is not None:
                self._inspection.install_keras(keras)
            keras_settings.apply_keras_settings(
                keras, **self._request["keras"], notice=self._notice
            )

    def _notice(self, kind: str, text: str) -> None:
        self._pipe.emit("notice", kind=kind, where=user_line(), text=text)

    def _report(self, error: BaseException) -> None:
        """Print the traceback as Python would, without our frames, and send it to the parent."""
        frames: types.TracebackType | None = error.__traceback__
        while frames is not None and frames.tb_frame.f_globals.get("__package__") == __package__:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        last = traceback.extract_tb(frames)
        own = [frame for frame in last if frame.filename == self._request["script"]]
        where = f"{own[-1].filename}:{own[-1].lineno}" if own else self._request["script"]
        memory = isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
        self._pipe.emit(
            "error",
            kind="memory" if memory else "exception",
            text="".join(traceback.format_exception_only(type(error), error)).strip(),
            where=where,
        )


def _offer_step(finder: StepFinder) -> None:
    """Provide the module ``autotuner`` with a ``step`` that counts."""
    module = _StepModule("autotuner", "Marks the steps of a script that is being tuned.")
    module.finder = finder

    sys.modules["autotuner"] = module


class _StepModule(types.ModuleType):
    """The script's module ``autotuner``. A script that accesses ``step`` marks its steps itself."""

    finder: StepFinder

    @property
    def step(self) -> Callable[..., None]:
        """Return the function that marks the end of one step."""
        finder = self.finder
        finder.explicit = True

        def step(samples: int | None = None) -> None:
            finder.tick(STEP, "step", 1, samples)

        return step
