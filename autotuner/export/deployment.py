"""Formats for where a script is deployed: Dockerfile, Kubernetes, systemd, TensorFlow Serving.

All of them hold environment variables only: settings of tf.data take ``best.py`` or ``autotune
exec``. Pure functions from an Export to a text.
"""

import json
import re
from pathlib import Path

from autotuner.errors import UserError
from autotuner.export.content import Export, comment, header, variables
from autotuner.trial.request import INFERENCE_BATCH_SIZE

_DATA_NOTE = "Settings of tf.data and keras are not among these: let the script import best.py."
_BY_FLAG = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def render_dockerfile(export: Export) -> str:
    """Return ``ENV`` instructions for a Dockerfile."""
    lines = [f"ENV {name}={_escaped(value)}" for name, value in variables(export).items()]
    return "\n".join([header(export), comment(_DATA_NOTE), *lines]) + "\n"


def _escaped(text: str) -> str:
    """Return a value for a Dockerfile's ENV, escaped by backslashes.

    Inside quotes a backslash escapes only some characters, and parsers differ in which.
    """
    return re.sub(r"([^\w./:,=@%+-])", r"\\\1", text)


def render_kubernetes(export: Export) -> str:
    """Return a strategic merge patch for a Deployment: variables, and the CPUs it was tuned for.

    Requests equal limits, so the pod gets whole CPUs if the kubelet's CPU manager is static.
    """
    cpus = export.result.facts.machine.usable_cpus
    lines = [
        header(export),
        comment(
            "Apply it:  kubectl patch deployment NAME --patch-file best.k8s.yaml",
            "Replace CONTAINER by the name of your container. " + _DATA_NOTE,
        ),
        "spec:",
        "  template:",
        "    spec:",
        "      containers:",
        "        - name: CONTAINER",
        "          resources:",
        "            requests:",
        f'              cpu: "{cpus}"',
        "            limits:",
        f'              cpu: "{cpus}"',
        "          env:",
    ]
    for name, value in variables(export).items():
        # a JSON text is a YAML text
        lines += [f"            - name: {name}", f"              value: {json.dumps(value)}"]
    return "\n".join(lines) + "\n"


def render_systemd(export: Export) -> str:
    """Return a drop-in for a systemd service."""
    lines = [
        header(export),
        comment("Put it into /etc/systemd/system/NAME.service.d/autotune.conf. " + _DATA_NOTE),
        "[Service]",
    ]
    for name, value in variables(export).items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        lines.append(f'Environment="{name}={escaped}"')
    return "\n".join(lines) + "\n"


def render_serving(export: Export) -> str:
    """Return flags of ``tensorflow_model_server``, one on a line, for thread pools and batching.

    ``--tensorflow_session_parallelism`` is left out: the server refuses it beside the two flags for
    each pool (server.cc).

    Raises:
        UserError: if the model that was tuned is no SavedModel.
    """
    _check_saved_model(export)
    names = {
        "intra_op": "--tensorflow_intra_op_parallelism",
        "inter_op": "--tensorflow_inter_op_parallelism",
    }
    found = export.configuration
    flags = [f"{flag}={found[name]}" for name, flag in names.items() if name in found]
    environment = [f"{n}={v}" for n, v in variables(export).items() if n not in _BY_FLAG]
    note = (
        "Use it:  tensorflow_model_server --model_name=NAME --model_base_path=PATH \\",
        "           $(grep -v '^#' best.serving)",
        "with best.batching from `autotune export --format serving-batching` beside it. The server"
        " is another build of TensorFlow than the one that was tuned: measure there as well.",
    )
    parts = [header(export), comment(*note)]
    if environment:
        parts.append(comment("and in its environment: " + " ".join(environment)))
    batching = ["--enable_batching=true", "--batching_parameters_file=best.batching"]
    return "\n".join([*parts, *flags, *batching]) + "\n"


def render_batching(export: Export) -> str:
    """Return TensorFlow Serving's batching file (a text protocol buffer).

    ``max_batch_size``: the batch size that was tuned. ``num_batch_threads``: the number of CPUs, as
    TensorFlow Serving's batching guide recommends without GPUs. ``batch_timeout_micros`` 0: no
    request waits for a batch to fill. ``max_enqueued_batches``: room for a short burst, as a longer
    queue only adds latency.

    Raises:
        UserError: if the model that was tuned is no SavedModel.
    """
    _check_saved_model(export)
    cpus = export.result.facts.machine.usable_cpus
    values = {
        "max_batch_size": _batch_size(export),
        "batch_timeout_micros": 0,
        "num_batch_threads": cpus,
        "max_enqueued_batches": 4 * cpus,
    }
    lines = [f"{name} {{ value: {value} }}" for name, value in values.items()]
    return "\n".join([header(export), *lines]) + "\n"


def _check_saved_model(export: Export) -> None:
    model = export.result.facts.identity.model
    if not (Path(model) / "saved_model.pb").is_file():
        hint = "tune a SavedModel (autotune run --model FOLDER), or take env, python or json"
        raise UserError(f"TensorFlow Serving takes a SavedModel, but {model} is not one", hint=hint)


def _batch_size(export: Export) -> int:
    """Return the batch size that was found, or else requested."""
    found = str(export.configuration.get("batch_size", ""))
    given = list(export.result.facts.identity.arguments)
    asked = given[given.index("--batch-size") + 1] if "--batch-size" in given else ""
    return next((int(text) for text in (found, asked) if text.isdecimal()), INFERENCE_BATCH_SIZE)
