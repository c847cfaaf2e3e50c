"""The specification as a study keeps it, so that ``autotune run --study NAME`` can go on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from autotuner.options.study_spec import (
    Effort,
    Objective,
    Pairing,
    SamplerName,
    StepSource,
    StudySpec,
    Timing,
    Warm,
)

_ATTRIBUTE = "spec"


def write_spec(study: optuna.Study, spec: StudySpec) -> None:
    """Keep a specification in its study."""
    fields = dataclasses.asdict(spec)
    fields["model"] = str(spec.model)
    fields["python"] = None if spec.python is None else str(spec.python)
    study.set_user_attr(_ATTRIBUTE, fields)


def read_spec(study: optuna.Study) -> StudySpec | None:
    """Return the specification a study was last run with; None if it was not made by us."""
    return spec_from(study.user_attrs)


def spec_from(attributes: Mapping[str, Any]) -> StudySpec | None:
    """Return the specification among a study's attributes."""
    stored: dict[str, Any] | None = attributes.get(_ATTRIBUTE)
    if stored is None:
        return None
    fields = dict(stored)
    fields["model"] = Path(fields["model"])
    fields["python"] = None if fields["python"] is None else Path(fields["python"])
    fields["arguments"] = tuple(fields["arguments"])
    fields["knobs"] = tuple(fields["knobs"])
    fields["shapes"] = tuple(fields["shapes"])
    fields["environment"] = tuple((name, value) for name, value in fields["environment"])
    fields["measure"] = StepSource(fields["measure"])
    fields["sampler"] = SamplerName(fields["sampler"])
    fields["effort"] = None if fields["effort"] is None else Effort(fields["effort"])
    fields["objective"] = Objective(fields["objective"])
    fields["pairing"] = Pairing(fields["pairing"])
    fields["warm"] = Warm(fields.get("warm", Warm.AUTO))  # older studies do not say
    fields["timing"] = Timing(**fields["timing"])
    return StudySpec(**fields)
