"""Apply the keras knobs to a script that was not written for them.

Like pipeline.py this one file is used in every trial and, word for word, inside ``best.py``.

``steps_per_execution``: batches that keras runs in one call of its step function; left alone where
a callback wants to hear of each batch. ``jit_compile``: 1 compiles the step by XLA. ``batch_size``:
that of ``predict`` on arrays. All are set when fit, evaluate or predict begins.
"""

import functools
from typing import Any

_FUNCTIONS = ("train_function", "test_function", "predict_function")
_BATCH_HOOKS = tuple(
    "on_" + part + "batch_" + end
    for part in ("", "train_", "test_", "predict_")
    for end in ("begin", "end")
)
# keras' own that hear of batches only if told to, by which attribute, and its harmless value
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

    ``notice(kind, text)``, if given, is called where a knob is left alone ("steps_kept").
    """
    if (steps_per_execution, jit_compile, batch_size) == (None, None, None):
        return
    base = keras.callbacks.Callback

    def prepared(model: Any, loop: str, args: Any, kwargs: Any) -> Any:
        if steps_per_execution is not None:
            hearing = batch_callbacks(callbacks_of(loop, args, kwargs), base)
            if hearing:
                if notice is not None:
                    names = ", ".join(hearing)
                    notice(
                        "steps_kept", names + " hears of each batch: steps_per_execution is kept"
                    )
            else:
                _set_steps(model, steps_per_execution)
        if jit_compile is not None and getattr(model, "jit_compile", None) != bool(jit_compile):
            _set_jit(model, bool(jit_compile))
        if batch_size is not None and loop == "predict" and not hasattr(args[0], "element_spec"):
            return args[:1] + args[2:], dict(kwargs, batch_size=batch_size)
        return args, kwargs

    def patch(loop: str) -> None:
        method = getattr(keras.Model, loop)

        @functools.wraps(method)
        def tuned(self: Any, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = prepared(self, loop, args, kwargs)
            return method(self, *args, **kwargs)

        setattr(keras.Model, loop, tuned)

    for loop in _CALLBACKS_AT:
        patch(loop)


def callbacks_of(loop: str, args: Any, kwargs: Any) -> Any:
    """Return the callbacks given to a call of fit, evaluate or predict, as a list."""
    at = _CALLBACKS_AT[loop]
    given = args[at] if len(args) > at else kwargs.get("callbacks")
    if given is None:
        return []
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    return [one for item in listed for one in (getattr(item, "callbacks", None) or [item])]


def batch_callbacks(callbacks: Any, base: Any) -> Any:
    """Return the names of callbacks that want to hear of each batch."""
    return [type(one).__name__ for one in callbacks if _hears_batches(one, base)]


def _hears_batches(callback: Any, base: Any) -> bool:
    kind = type(callback)
    own = kind.__module__.split(".")[0] in ("keras", "tf_keras")
    if own and kind.__name__ in ("ProgbarLogger", "History", "CallbackList"):
        return False
    if own and kind.__name__ in _QUIET_CALLBACKS:
        attribute, harmless = _QUIET_CALLBACKS[kind.__name__]
        return bool(getattr(callback, attribute, harmless) != harmless)
    for hook in _BATCH_HOOKS:
        if hook in vars(callback) or getattr(kind, hook, None) is not getattr(base, hook, None):
            return True
    return False


def _set_steps(model: Any, steps: int) -> None:
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
    """Let keras make its step functions anew: they were made for other settings."""
    for name in _FUNCTIONS:
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
