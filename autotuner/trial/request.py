"""The parent's request to a child, and its JSON (see child/entry.py)."""

import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autotuner.knobs.catalogue import KNOBS, MANAGED_VARIABLES, as_environment
from autotuner.knobs.knob import AS_WRITTEN, Configuration, Group, Means
from autotuner.machine.host import parse_cpu_list
from autotuner.options.study_spec import StepSource, StudySpec, Timing, is_saved_model

SCHEMA = 1
CHILD_MAIN = Path(__file__).resolve().parents[1] / "child" / "entry.py"
INFERENCE_BATCH_SIZE = 32
_INFER_MODEL = Path(__file__).resolve().parents[1] / "child" / "drivers" / "infer_model.py"


class Kind(enum.StrEnum):
    """What the child is to do."""

    TRIAL = "trial"
    PROBE = "probe"


class Feed(enum.StrEnum):
    """What datasets yield: their elements, the first batch again and again, or one sample of it."""

    REAL = "real"
    CACHED = "cached"
    SINGLE = "single"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordValues:
    """Record what the first executions of a script compute, with all seeds fixed."""

    seed: int
    executions: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Fork the process from a warm parent that has imported ``modules``.

    ``start_timeout_s``: a process whose first step has not ended by then is assumed to hang because
    of the fork.
    """

    modules: tuple[str, ...]
    start_timeout_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRequest:
    """One run of a script under one configuration.

    ``configuration`` holds only the values to set: an absent knob stays as TensorFlow or the script
    has it, so the empty configuration is the default. ``environment``: variables that the study
    adds for the script. With ``record_values`` nothing is measured. ``inspect``: report what the
    script offers to the knobs (child/inspection.py). ``warm_start``: fork the process instead of
    starting it.
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
    record_values: RecordValues | None = None
    inspect: bool = False
    feed: Feed = Feed.REAL
    warm_start: WarmStart | None = None


def script_of(spec: StudySpec) -> Path:
    """Return the script that trials run: the user's, or infer_model.py for a saved model."""
    return _INFER_MODEL if is_saved_model(spec.model) else spec.model


def arguments_of(spec: StudySpec) -> tuple[str, ...]:
    """Return that script's arguments."""
    if not is_saved_model(spec.model):
        return spec.arguments
    size = spec.batch_size or INFERENCE_BATCH_SIZE
    shapes = [part for shape in spec.shapes for part in ("--shape", shape)]
    return (str(spec.model), "--batch-size", str(size), *shapes)


def needed_by_trials(spec: StudySpec, python: Path) -> tuple[Path, ...]:
    """Return the files and folders that a trial must be able to read."""
    return (python, CHILD_MAIN, spec.model, Path.cwd())


def pipeline_settings(configuration: Configuration) -> dict[str, int | str | None]:
    """Return the arguments of the child's ``pipeline.apply_data_settings`` for a configuration."""
    return _arguments(configuration, [n for n, k in KNOBS.items() if k.group is Group.DATA])


def keras_settings(configuration: Configuration) -> dict[str, int | str | None]:
    """Return the arguments of ``keras_settings.apply_keras_settings`` for a configuration."""
    code = [n for n, k in KNOBS.items() if k.means is Means.CODE and k.group is not Group.DATA]
    return _arguments(configuration, code)


def _arguments(configuration: Configuration, names: Sequence[str]) -> dict[str, int | str | None]:
    found: dict[str, int | str | None] = {}
    for name in names:
        value = configuration.get(name, AS_WRITTEN)
        number = str(value).isdecimal()
        found[name] = None if value == AS_WRITTEN else int(value) if number else value
    return found


def cpus_of(configuration: Configuration) -> list[int] | None:
    """Return the CPUs to which a configuration binds the process; None for all of them."""
    value = str(configuration.get("cpus", "all"))
    return None if value == "all" else sorted(parse_cpu_list(value))


def as_json(request: TrialRequest) -> dict[str, Any]:
    """Return the request as JSON for the child."""
    timing, recorded = request.timing, request.record_values
    values = as_environment(request.configuration)
    return {
        "schema": SCHEMA,
        "kind": request.kind.value,
        "script": str(request.script),
        "arguments": list(request.arguments),
        "environment": {name: values.get(name) for name in MANAGED_VARIABLES},
        "pipeline": pipeline_settings(request.configuration),
        "keras": keras_settings(request.configuration),
        "cpus": cpus_of(request.configuration),
        "inspect": request.inspect,
        "feed": request.feed.value,
        "record_values": None if recorded is None else dataclasses.asdict(recorded),
        "measurement": {
            "source": request.source.value,
            "phase": request.phase,
            "window_s": timing.window_s,
            "warmup_min_s": timing.warmup_min_s,
            "warmup_max_s": timing.warmup_max_s,
            "measure_s": timing.measure_s,
        },
    }
