"""The formats of exported files, each a pure function from an Export to a text.

A new format is a member of ``Format``, its function in ``RENDERERS``, and a test.
"""

import ast
import enum
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autotuner import __version__
from autotuner.codec import to_json
from autotuner.export.content import Export, code_settings, comment, header, variables
from autotuner.export.deployment import (
    render_batching,
    render_dockerfile,
    render_kubernetes,
    render_serving,
    render_systemd,
)
from autotuner.export.exported import BEST, DEFAULTS, SCHEMA
from autotuner.files import write_whole
from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.knobs.knob import Means, ReadAt
from autotuner.machine.host import cpu_list
from autotuner.statistics.sequential import CONFIDENCE
from autotuner.study.identity import Identity
from autotuner.trial.environment import PRELOAD
from autotuner.trial.request import CHILD_MAIN, cpus_of, keras_settings, pipeline_settings


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


# what each study's folder holds; the other formats are written on request
FILE_NAMES = {Format.ENV: "best.env", Format.PYTHON: "best.py", Format.JSON: "best.json"}


def render_env(export: Export) -> str:
    """Return ``export`` lines for a shell, to ``source`` before the script starts."""
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
    """Return the source of a module that trials use, with its docstring as a comment."""
    source = file.read_text(encoding="utf-8")
    module = ast.parse(source)
    first = next(n for n in module.body if isinstance(n, ast.Assign | ast.FunctionDef))
    # comments above its first line belong to it
    lines = source.splitlines()
    start = first.lineno - 1
    while lines[start - 1].startswith("#"):
        start -= 1
    about = (ast.get_docstring(module) or "").splitlines()
    return f"{comment(*about)}\n\n" + "\n".join(lines[start:])


def _call(function: str, settings: Mapping[str, object], *first: str) -> str:
    arguments = [f"{name}={value!r}" for name, value in settings.items() if value is not None]
    return f"{function}({', '.join([*first, *arguments])})"


def render_python(export: Export) -> str:
    """Return a module that applies all settings, those of tf.data too; it needs only TensorFlow."""
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
        # the first line decides, so a path below can't be taken for a declaration (PEP 263)
        comment("-*- coding: utf-8 -*-") + "\n" + header(export),
        comment(
            "Make it the script's first line, before TensorFlow and numpy:  import best",
            "(with this file beside the script), or paste all of it there.",
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
    """Return everything as JSON; ``exported.py`` reads it back."""
    result, decision, facts = export.result, export.result.decision, export.result.facts
    document = {
        "schema": SCHEMA,
        "study": result.study,
        "exported": result.as_of.isoformat(timespec="seconds"),
        "autotune": __version__,
        "configuration": dict(export.configuration),
        "environment": as_environment(export.configuration),
        "holds": BEST if export.holds_best else DEFAULTS,
        "result": {
            "sentence": result.sentence,
            "verdict": decision.verdict.value,
            "speed_up": to_json(decision.finding),
            "confidence": CONFIDENCE,
            "objective": facts.objective.value,
            "unit": facts.score_unit,
            "numerics": to_json(decision.numerics),
            "payback": to_json(result.payback),
            "exported_anyway": export.is_unproven,
            "best": to_json(decision.best),
            "default": to_json(decision.default),
        },
        "model": _public(facts.identity),
        "machine": to_json(facts.machine),
        "build": to_json(facts.build),
        "notices": to_json(export.notices),
    }
    return json.dumps(document, indent=2) + "\n"


def _public(identity: Identity) -> dict[str, Any]:
    """Return an identity without what may be secret: values of arguments and of variables."""
    fields: dict[str, Any] = to_json(identity)
    fields["arguments"] = len(identity.arguments)
    fields["environment"] = [name for name, _ in identity.environment]
    return fields


RENDERERS: Mapping[Format, Callable[[Export], str]] = {
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
