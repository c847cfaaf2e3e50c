"""What the parent asks of a child, and how it is written down (see child/main.py)."""

import dataclasses
import enum
from pathlib import Path
from typing import Any

from autotuner.knobs.catalogue import KNOBS, MANAGED_VARIABLES, as_environment
from autotuner.knobs.knob import AS_WRITTEN, Configuration, Group
from autotuner.spec.study_spec import StepSource, Timing

SCHEMA = 1
CHILD_MAIN = Path(__file__).resolve().parent / "child" / "main.py"


class Kind(enum.StrEnum):
    """What the child is to do."""

    TRIAL = "trial"
    PROBE = "probe"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numerics:
    """Ask for what the first executions of a script compute, with all seeds fixed."""

    seed: int
    executions: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """One run of a script under one configuration.

    ``configuration`` holds only what is to be set: a knob that is absent stays as TensorFlow or the
    script has it, so the empty one is the default. ``environment`` is what the study adds for the
    script's own use. With ``numerics`` nothing is measured: see :class:`Numerics`.
    """

    kind: Kind = Kind.TRIAL
    script: Path
    arguments: tuple[str, ...] = ()
    python: Path
    working_directory: Path
    configuration: Configuration = dataclasses.field(default_factory=dict)
    environment: tuple[tuple[str, str], ...] = ()
    source: StepSource = StepSource.AUTO
    phase: str | None = None
    timing: Timing = Timing()
    numerics: Numerics | None = None


def pipeline_settings(configuration: Configuration) -> dict[str, int | str | None]:
    """Return the arguments of the child's ``pipeline.apply_data_settings`` for a configuration."""

    def setting(name: str) -> int | str | None:
        value = configuration.get(name, AS_WRITTEN)
        if value == AS_WRITTEN:
            return None
        return int(value) if str(value).isdecimal() else value

    return {name: setting(name) for name, knob in KNOBS.items() if knob.group is Group.DATA}


def as_json(request: TrialRequest) -> dict[str, Any]:
    """Return the request as the child reads it."""
    timing = request.timing
    values = as_environment(request.configuration)
    return {
        "schema": SCHEMA,
        "kind": request.kind.value,
        "script": str(request.script),
        "arguments": list(request.arguments),
        "environment": {name: values.get(name) for name in MANAGED_VARIABLES},
        "pipeline": pipeline_settings(request.configuration),
        "numerics": None if request.numerics is None else dataclasses.asdict(request.numerics),
        "measurement": {
            "source": request.source.value,
            "phase": request.phase,
            "window_s": timing.window_s,
            "warmup_min_s": timing.warmup_min_s,
            "warmup_max_s": timing.warmup_max_s,
            "measure_s": timing.measure_s,
        },
    }
