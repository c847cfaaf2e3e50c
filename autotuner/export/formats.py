"""The formats: shell environment, Python module, JSON. Pure functions from an Export to a text."""

import ast
import dataclasses
import enum
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from autotuner.export.content import Export, data_settings
from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.knobs.knob import Group
from autotuner.study.identity import Identity
from autotuner.trial.request import CHILD_MAIN, pipeline_settings
from autotuner.verdict.sequential import CONFIDENCE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 2
_PIPELINE_SOURCE = CHILD_MAIN.with_name("pipeline.py")


class Format(enum.StrEnum):
    """A format of the exported configuration."""

    ENV = "env"
    PYTHON = "python"
    JSON = "json"


FILE_NAMES = {Format.ENV: "best.env", Format.PYTHON: "best.py", Format.JSON: "best.json"}


def _comment(text: str) -> str:
    """Return a text as comment lines; nothing in it can end the comment."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def _removals(export: Export) -> list[str]:
    return [
        f"remove this line, or it wins over this file: {notice.where} ({notice.text})"
        for notice in export.lines_to_remove()
    ]


def _header(export: Export) -> str:
    title = "Settings for TensorFlow on the CPU, found by autotune"
    values = " ".join(f"{name}={value}" for name, value in export.configuration.items())
    order = [f"note: {notice.where}: {notice.text}" for notice in export.changes_of_order()]
    order += [f"note: {n.text}" for n in export.notices if n.kind == "short"]
    return _comment(
        "\n".join([title, *export.provenance(), f"settings: {values}", *order, *_removals(export)])
    )


def render_env(export: Export) -> str:
    """Return ``export`` lines for a shell; ``source best.env`` before starting the script."""
    data: list[str] = []
    other: list[str] = []
    for name, value in export.configuration.items():
        line = f"export {KNOBS[name].variable}={shlex.quote(str(value))}"
        (data if KNOBS[name].group is Group.DATA else other).append(line)
    parts = [_header(export), *other]
    if data:
        parts.append(
            "# tf.data: TensorFlow reads none of these three. best.py applies them to any script;"
            "\n# a script can read them itself. as_written: as the script has it."
        )
        parts.extend(data)
    return "\n".join(parts) + "\n"


def _embedded_pipeline() -> str:
    """Return the code that trials use for tf.data, its docstring as a comment."""
    source = _PIPELINE_SOURCE.read_text(encoding="utf-8")
    module = ast.parse(source)
    first = next(n for n in module.body if isinstance(n, ast.Assign | ast.FunctionDef))
    code = "\n".join(source.splitlines()[first.lineno - 1 :])
    return f"{_comment(ast.get_docstring(module) or '')}\n\n{code}"


def render_python(export: Export) -> str:
    """Return a module that applies everything, tf.data included; it needs only TensorFlow."""
    other = {
        name: value
        for name, value in export.configuration.items()
        if KNOBS[name].group is not Group.DATA
    }
    environment = "\n".join(
        f"        {variable!r}: {value!r}," for variable, value in as_environment(other).items()
    )
    data = data_settings(export.configuration)
    parts = [
        _header(export),
        _comment(
            "Make it the script's first line, before TensorFlow and numpy:  import best\n"
            "(with this file beside the script), or paste all of it there."
        ),
        "import os\nimport sys" + ("\nfrom typing import Any" if data else ""),
        'if "tensorflow" in sys.modules:\n'
        '    raise RuntimeError("autotune settings must come before import tensorflow")',
        f"os.environ.update(\n    {{\n{environment}\n    }}\n)",
    ]
    if data:
        arguments = {k: v for k, v in pipeline_settings(data).items() if v is not None}
        call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        parts += [_embedded_pipeline(), f"\napply_data_settings({call})"]
    else:
        parts.append("# tf.data stays as the script has it")
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


RENDERERS = {Format.ENV: render_env, Format.PYTHON: render_python, Format.JSON: render_json}


def write_files(folder: Path, export: Export) -> list[Path]:
    """Write all formats into the study's folder; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, name in FILE_NAMES.items():
        path = folder / name
        draft = path.with_name(name + ".new")
        draft.write_text(RENDERERS[kind](export), encoding="utf-8")
        draft.replace(path)
        paths.append(path)
    return paths
