"""Apply the keras knobs to a script that was not written for them.

Like pipeline.py this file is used in every trial and copied verbatim into ``best.py``.

``steps_per_execution``: batches that keras runs in one call of its step function; kept where a
callback has hooks for each batch. ``jit_compile``: 1 compiles the step by XLA. ``batch_size``: the
batch size of ``predict`` on arrays. All are set when fit, evaluate or predict begins.
"""

import functools
from typing import Any

_FUNCTIONS = ("train_function", "test_function", "predict_function")
# infixes of the batch hooks that a loop calls; fit also evaluates
_ENDS = ("begin", "end")
_BATCHES = {"fit": ("", "train_", "test_"), "evaluate": ("test_",), "predict": ("predict_",)}
# keras' own callbacks that use batches only if an attribute differs from this value
_QUIET_CALLBACKS = {
    "ModelCheckpoint": ("save_freq", "epoch"),
    "BackupAndRestore": ("save_freq", "epoch"),
    "TensorBoard": ("update_freq", "epoch"),
}
_CALLBACKS_AT = {"fit": 5, "evaluate": 6, "predict": 4}  # position among the arguments after self


def apply_keras_settings(
    keras: Any,
    steps_per_execution: Any = None,
    jit_compile: Any = None,
    batch_size: Any = None,
    notice: Any = None,
) -> None:
    """Patch ``keras.Model``. None leaves a knob as the script has it.

    ``notice(kind, text)``, if given, is called where a knob can't be applied ("steps_kept").
    """
    if (steps_per_execution, jit_compile, batch_size) == (None, None, None):
        return
    base = keras.callbacks.Callback

    def prepared(model: Any, loop: str, args: Any, kwargs: Any) -> Any:
        if steps_per_execution is not None:
            # the model's own value, before any change
            written = model.__dict__.setdefault("_autotune_steps", _get_steps(model))
            callbacks = batch_callbacks(loop, args, kwargs, base)
            if callbacks:
                _set_steps(model, written)
                if notice is not None:
                    names = ", ".join(callbacks)
                    text = " has hooks for each batch: steps_per_execution is kept"
                    notice("steps_kept", names + text)
            else:
                _set_steps(model, steps_per_execution)
        if jit_compile is not None and getattr(model, "jit_compile", None) != bool(jit_compile):
            _set_jit(model, bool(jit_compile))
        given = args[0] if args else kwargs.get("x")
        if batch_size is None or loop != "predict" or not _is_arrays(given):
            return args, kwargs
        if len(args) > 1:
            return (given, batch_size, *args[2:]), kwargs
        return args, dict(kwargs, batch_size=batch_size)

    def patch(loop: str) -> None:
        method = getattr(keras.Model, loop)

        @functools.wraps(method)
        def tuned(self: Any, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = prepared(self, loop, args, kwargs)
            return method(self, *args, **kwargs)

        setattr(keras.Model, loop, tuned)

    for loop in _CALLBACKS_AT:
        patch(loop)


def batch_callbacks(loop: str, args: Any, kwargs: Any, base: Any) -> Any:
    """Return the names of callbacks with hooks for each batch of fit, evaluate or predict."""
    at = _CALLBACKS_AT[loop]
    given = args[at] if len(args) > at else kwargs.get("callbacks")
    if given is None:
        return []
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    each = [one for item in listed for one in (getattr(item, "callbacks", None) or [item])]
    return [type(one).__name__ for one in each if _has_batch_hooks(loop, one, base)]


def _has_batch_hooks(loop: str, callback: Any, base: Any) -> bool:
    kind = type(callback)
    own = kind.__module__.split(".")[0] in ("keras", "tf_keras")
    if own and kind.__name__ in ("ProgbarLogger", "History", "CallbackList"):
        return False
    if own and kind.__name__ in _QUIET_CALLBACKS:
        attribute, harmless = _QUIET_CALLBACKS[kind.__name__]
        return bool(getattr(callback, attribute, harmless) != harmless)
    for hook in ["on_" + part + "batch_" + end for part in _BATCHES[loop] for end in _ENDS]:
        if hook in vars(callback) or getattr(kind, hook, None) is not getattr(base, hook, None):
            return True
    return False


def _is_arrays(x: Any) -> bool:
    """Tell whether x is arrays, which predict splits into batches, unlike datasets."""
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (list, tuple)):
        return all(_is_arrays(one) for one in x)
    return hasattr(x, "shape")


def _get_steps(model: Any) -> Any:
    """Return the model's steps_per_execution; None before it is compiled."""
    steps: Any = getattr(model, "_steps_per_execution", None)
    if steps is None:
        steps = getattr(model, "steps_per_execution", None)
    return None if steps is None else int(steps)


def _set_steps(model: Any, steps: Any) -> None:
    if steps is None:
        return
    variable: Any = getattr(model, "_steps_per_execution", None)
    if hasattr(variable, "assign"):  # keras 2
        if int(variable) != steps:
            variable.assign(steps)
            _forget_functions(model)
    elif getattr(model, "steps_per_execution", steps) != steps:
        model.steps_per_execution = steps
        _forget_functions(model)


def _set_jit(model: Any, compiled: bool) -> None:
    if hasattr(model, "jit_compile"):
        model.jit_compile = compiled
    else:
        model._jit_compile = compiled  # keras 2
    _forget_functions(model)


def _forget_functions(model: Any) -> None:
    """Make keras rebuild its step functions, which were built for other values."""
    for name in _FUNCTIONS:
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
