"""The formats: shell environment, Python module, JSON. Pure functions from an Export to a text."""

import ast
import dataclasses
import enum
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from autotuner.export.content import Export, code_settings, comment, header, variables
from autotuner.export.deployment import (
    render_batching,
    render_dockerfile,
    render_kubernetes,
    render_serving,
    render_systemd,
)
from autotuner.export.writing import write_whole
from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.knobs.knob import Means, ReadAt
from autotuner.machine.host import cpu_list
from autotuner.statistics.sequential import CONFIDENCE
from autotuner.study.identity import Identity
from autotuner.trial.environment import PRELOAD
from autotuner.trial.request import CHILD_MAIN, cpus_of, keras_settings, pipeline_settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 2


class Format(enum.StrEnum):
    """A format of the exported configuration."""

    ENV = "env"
    PYTHON = "python"
    JSON = "json"
    DOCKERFILE = "dockerfile"
    KUBERNETES = "kubernetes"
    SYSTEMD = "systemd"
    SERVING = "serving"
    SERVING_BATCHING = "serving-batching"


FILE_NAMES = {Format.ENV: "best.env", Format.PYTHON: "best.py", Format.JSON: "best.json"}


def render_env(export: Export) -> str:
    """Return ``export`` lines for a shell; ``source best.env`` before starting the script."""
    parts = [header(export)]
    for name, value in variables(export).items():
        parts.append(f"export {name}={_shell_value(name, value)}")
    cpus = cpus_of(export.configuration)
    if cpus is not None:
        parts.append(f"# and start the script by: taskset -c {cpu_list(cpus)} python ...")
    code = {n: v for n, v in export.configuration.items() if KNOBS[n].means is Means.CODE}
    if code:
        parts.append(
            "# TensorFlow reads none of these. best.py and `autotune exec best.json` apply them to"
            "\n# any script; a script can read them itself. as_written: as the script has it."
        )
        parts += [f"export {KNOBS[n].variable}={shlex.quote(str(v))}" for n, v in code.items()]
    return "\n".join(parts) + "\n"


def _shell_value(name: str, value: str) -> str:
    if name == PRELOAD:  # in front of what is preloaded already
        return f"{shlex.quote(value)}${{{PRELOAD}:+:${PRELOAD}}}"
    return shlex.quote(value)


def _embedded(file: Path) -> str:
    """Return a file of the code that trials use, its docstring as a comment."""
    source = file.read_text(encoding="utf-8")
    module = ast.parse(source)
    first = next(n for n in module.body if isinstance(n, ast.Assign | ast.FunctionDef))
    # comments above its first line belong to it
    lines = source.splitlines()
    start = first.lineno - 1
    while lines[start - 1].startswith("#"):
        start -= 1
    return f"{comment(ast.get_docstring(module) or '')}\n\n" + "\n".join(lines[start:])


def _call(function: str, settings: Mapping[str, object], *first: str) -> str:
    arguments = [f"{name}={value!r}" for name, value in settings.items() if value is not None]
    return f"{function}({', '.join([*first, *arguments])})"


def render_python(export: Export) -> str:
    """Return a module that applies everything, tf.data included; it needs only TensorFlow."""
    configuration = export.configuration
    early = {n: KNOBS[n].variable for n in configuration if KNOBS[n].read_at is ReadAt.EXEC}
    environment = "\n".join(
        f"        {variable!r}: {value!r},"
        for variable, value in variables(export).items()
        if variable not in early.values()
    )
    code = code_settings(configuration)
    keras = any(value is not None for value in keras_settings(code).values())
    data = any(value is not None for value in pipeline_settings(code).values())
    cpus = cpus_of(configuration)
    parts = [
        header(export),
        comment(
            "Make it the script's first line, before TensorFlow and numpy:  import best\n"
            "(with this file beside the script), or paste all of it there."
        ),
        ("import functools\n" if keras else "")
        + "import os\nimport sys"
        + ("\nfrom typing import Any" if code else ""),
        'if "tensorflow" in sys.modules:\n'
        '    raise RuntimeError("autotune settings must come before import tensorflow")',
    ]
    if environment:
        parts.append(f"os.environ.update(\n    {{\n{environment}\n    }}\n)")
    if cpus is not None:
        parts.append(f"os.sched_setaffinity(0, {cpus!r})")
    late = [n for n in early if n != "cpus" and configuration[n] != KNOBS[n].unset]
    if late:
        parts.append(
            comment(f"{', '.join(late)}: too late here; source best.env, or autotune exec")
        )
    if data:
        parts += [
            _embedded(CHILD_MAIN.with_name("pipeline.py")),
            _call("\napply_data_settings", pipeline_settings(code)),
        ]
    if keras:
        parts += [
            _embedded(CHILD_MAIN.with_name("keras_settings.py")),
            "import tensorflow  # noqa: E402",
            _call("apply_keras_settings", keras_settings(code), "tensorflow.keras"),
        ]
    if not code:
        parts.append("# tf.data and keras stay as the script has them")
    return "\n\n".join(parts) + "\n"


def render_json(export: Export) -> str:
    """Return everything as JSON, schema 2."""
    decision, facts = export.decision, export.facts
    document = {
        "schema": SCHEMA,
        "study": export.study,
        "exported": export.created.isoformat(timespec="seconds"),
        "autotune": export.version,
        "configuration": dict(export.configuration),
        "environment": as_environment(export.configuration),
        "holds": "best" if decision.deploys_best else "default",
        "result": {
            "sentence": export.sentence,
            "verdict": decision.verdict.value,
            "speed_up": _as_dict(decision.finding),
            "confidence": CONFIDENCE,
            "objective": facts.objective.value,
            "unit": facts.score_unit,
            "numerics": _as_dict(decision.numerics),
            "payback": _as_dict(export.payback),
            "exported_anyway": decision.exported_anyway and not decision.is_recommended,
            "best": dataclasses.asdict(decision.best),
            "default": dataclasses.asdict(decision.default),
        },
        "model": _public(facts.identity),
        "machine": dataclasses.asdict(facts.machine),
        "build": dataclasses.asdict(facts.build),
        "notices": [dataclasses.asdict(notice) for notice in export.notices],
    }
    return json.dumps(document, indent=2) + "\n"


def _as_dict(value: "DataclassInstance | None") -> dict[str, object] | None:
    return None if value is None else dataclasses.asdict(value)


def _public(identity: Identity) -> dict[str, object]:
    """Return an identity without what may be secret: values of arguments and of variables."""
    fields = dataclasses.asdict(identity)
    fields["arguments"] = len(identity.arguments)
    fields["environment"] = [name for name, _ in identity.environment]
    return fields


RENDERERS = {
    Format.ENV: render_env,
    Format.PYTHON: render_python,
    Format.JSON: render_json,
    Format.DOCKERFILE: render_dockerfile,
    Format.KUBERNETES: render_kubernetes,
    Format.SYSTEMD: render_systemd,
    Format.SERVING: render_serving,
    Format.SERVING_BATCHING: render_batching,
}


def write_files(folder: Path, export: Export) -> list[Path]:
    """Write all formats into the study's folder; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, name in FILE_NAMES.items():
        path = folder / name
        write_whole(path, RENDERERS[kind](export))
        paths.append(path)
    return paths
