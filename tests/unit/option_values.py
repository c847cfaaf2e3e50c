"""A value to try for each option, and the parser of ``autotune run``."""

from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from autotuner.cli.commands import tune
from autotuner.cli.flags import Flags, study_options
from autotuner.cli.main import split_arguments
from autotuner.cli.resolve import apply_flags, base_spec
from autotuner.options.option import Place
from autotuner.options.study_spec import (
    Effort,
    Objective,
    Pairing,
    SamplerName,
    StepSource,
    StudySpec,
    Warm,
)
from autotuner.options.table import OPTIONS

# a value other than the default for each option, by its key
VALUES: dict[str, Any] = {
    "arguments": ("--epochs", "3"),
    "python": Path("/usr/bin/python3"),
    "study": "--a study",
    "description": "what it is",
    "knobs": ("threads", "onednn"),
    "environment": (("A", "x=1, y"), ("B", "")),
    "measure": StepSource.KERAS,
    "phase": "fit",
    "trials": 7,
    "budget": 1234567.891,
    "sampler": SamplerName.TPE,
    "seed": -3,
    "effort": Effort.FAST,
    "pairs": 0,
    "objective": Objective.LATENCY_P99,
    "pairing": Pairing.SEQUENTIAL,
    "warm": Warm.OFF,
    "max_memory": 3 * 1024**3 + 1,
    "max_latency_p99": 0.0425,
    "margin": 0.015,
    "strict_numerics": True,
    "measure_time": 0.3,
    "batch_size": 8,
    "shapes": ("images=32,224,224,3", "mask=32,1"),
    "window": 0.02,
    "warmup_min": 0.1,
    "warmup_max": 40.0,
    "start_timeout": 3600.0,
    "warmup_timeout": 60.0,
    "measure_timeout": 90.5,
    "grace": 0.00001,
}
FOR_SAVED_MODELS = {"batch_size", "shapes"}


def at(place: Place) -> list[str]:
    """Return the keys of the options that may be given at a place."""
    return [key for key, option in OPTIONS.items() if place in option.places and key != "model"]


def parse(words: list[str]) -> StudySpec:
    """Read a command line of ``autotune run`` by the parameters that the real command has."""
    app, seen = typer.Typer(), []

    @study_options(*tune.STUDY_OPTIONS, study_file=True)
    def run(flags: Flags) -> None:
        seen.append(flags)

    app.command()(run)
    own, arguments = split_arguments(words)
    done = CliRunner().invoke(app, own, obj=arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    base = base_spec(seen[0])
    assert base is not None
    return apply_flags(base, seen[0])
