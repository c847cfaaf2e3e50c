"""Applies a configuration inside every Python that ``autotune exec`` starts.

Python imports the first ``sitecustomize`` on its path when it starts, and ``autotune exec`` puts
this folder first. The environment's own ``sitecustomize``, if there is one, is imported afterwards.
This module does not import TensorFlow: knobs that need code are applied after the script's import.
As in a trial, the configuration overrides the script.

``AUTOTUNE_EXEC`` holds JSON: ``child`` (the folder of the code that trials use), ``file`` (the
configuration's file), ``data`` and ``keras`` (arguments of pipeline.apply_data_settings and
keras_settings.apply_keras_settings), ``variables`` (environment variables to hold), ``threads``
(which of intra_op and inter_op to hold), ``tensorflow`` (version and distribution of the tuned
TensorFlow, or null), ``verbose`` (whether to print what is applied).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from typing import Any


class _Notices:
    """Prints notices; stands in for a trial's event pipe."""

    is_open = True

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose

    def emit(self, event: str, **fields: Any) -> None:
        """Print a notice if verbose."""
        if self._verbose:
            self.write("{}: {}; it is ignored".format(fields["where"], fields["text"]))

    def write(self, text: str) -> None:
        """Write a line to standard error if verbose."""
        if self._verbose:
            sys.stderr.write("autotune exec: " + text + "\n")


def _load(folder: str) -> str:
    """Make the child's folder importable as a package without changing sys.path."""
    name = "_autotune_child"
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError("autotune's folder is incomplete: " + folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name


def _install(settings: dict[str, Any]) -> None:
    package = _load(settings["child"])
    notices: Any = _Notices(settings["verbose"])

    def part(name: str) -> Any:
        return importlib.import_module(package + "." + name)

    overrides = part("overrides")
    script = (getattr(sys, "argv", None) or [""])[0]
    hold = overrides.hold_environment(script, settings["variables"], notices)

    def tensorflow_imported(tensorflow: Any) -> None:
        _check(tensorflow, settings, part("facts"))
        overrides.hold_threads(notices, settings["threads"])
        overrides.hold_until_first_op(hold)
        if settings["data"]:
            notices.write("tf.data: " + json.dumps(settings["data"]))
            part("pipeline").apply_data_settings(**settings["data"])

    def keras_imported(keras: Any) -> None:
        if hasattr(keras, "Model") and settings["keras"]:
            notices.write("keras: " + json.dumps(settings["keras"]))
            part("keras_settings").apply_keras_settings(keras, **settings["keras"])

    part("import_hooks").ImportHooks(
        before={"numpy": hold, "tensorflow": hold},
        after={
            "tensorflow": tensorflow_imported,
            "keras": keras_imported,
            "tf_keras": keras_imported,
        },
    ).install()


def _check(tensorflow: Any, settings: dict[str, Any], facts: Any) -> None:
    """End the process if the configuration was tuned with another TensorFlow."""
    if settings["tensorflow"] is None:
        return
    found = facts.tensorflow_facts(tensorflow)
    here, there = [found["tensorflow"], found["package"]], settings["tensorflow"]
    if here != there:
        sys.exit(
            "error: autotune exec: {} was made with TensorFlow {} ({}), this is {} ({})\n"
            "hint: tune again with this one, or give autotune exec --force".format(
                settings["file"], *there, *here
            )
        )


def _import_the_next() -> None:
    """Import the environment's own sitecustomize, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    own = sys.modules.pop("sitecustomize")
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = own


if "AUTOTUNE_EXEC" in os.environ:
    _install(json.loads(os.environ["AUTOTUNE_EXEC"]))
_import_the_next()
