"""How ``autotune exec`` starts a command: its environment, and the CPUs that it is bound to."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from autotuner.export.exported import Exported
from autotuner.knobs.catalogue import MANAGED_VARIABLES, as_environment
from autotuner.trial.environment import PRELOAD, preloaded
from autotuner.trial.request import CHILD_MAIN, cpus_of, keras_settings, pipeline_settings

SITE = Path(__file__).resolve().parents[1] / "child" / "site"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a command. ``cpus``: those to bind it to; None for all."""

    environment: dict[str, str]
    cpus: frozenset[int] | None


def prepare(
    exported: Exported, base: Mapping[str, str], *, force: bool, verbose: bool = False
) -> Launch:
    """Return how to start a command with a configuration.

    Args:
        exported: the configuration.
        base: the environment that the command would have.
        force: accept another TensorFlow than the one that the configuration was found with.
        verbose: let each Python process list the settings it applies, on its standard error.
    """
    configuration = exported.configuration
    variables = as_environment(configuration)
    environment = {name: value for name, value in base.items() if name not in MANAGED_VARIABLES}
    environment.update(preloaded(variables, base))
    build = None if force else exported.build
    environment["AUTOTUNE_EXEC"] = json.dumps(
        {
            "child": str(CHILD_MAIN.parent),
            "file": str(exported.path),
            "data": _given(pipeline_settings(configuration)),
            "keras": _given(keras_settings(configuration)),
            # libraries are preloaded by then, perhaps others beside ours
            "variables": {name: v for name, v in variables.items() if name != PRELOAD},
            "threads": [name for name in ("intra_op", "inter_op") if name in configuration],
            "tensorflow": None if build is None else [build.tensorflow, build.package],
            "verbose": verbose,
        }
    )
    path = base.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{SITE}:{path}" if path else str(SITE)
    cpus = cpus_of(configuration)
    return Launch(environment=environment, cpus=None if cpus is None else frozenset(cpus))


def _given(settings: Mapping[str, int | str | None]) -> dict[str, int | str]:
    return {name: value for name, value in settings.items() if value is not None}
