"""The events of a running study, as values: the display and the dashboard's pages read them.

The stages call one function with each event; a receiver of some events only matches on their types.
"""

import dataclasses
from collections.abc import Callable

from autotuner.knobs.knob import Configuration
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.noise import Noise
from autotuner.study.record import Role, TrialRecord
from autotuner.study.study_facts import StudyFacts
from autotuner.trial.outcome import Phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial is about to run."""

    number: int
    role: Role
    configuration: Configuration


@dataclasses.dataclass(frozen=True)
class PhaseEntered:
    """The running trial has entered a phase."""

    phase: Phase


@dataclasses.dataclass(frozen=True)
class TrialEnded:
    """A trial has ended, and its record is stored."""

    record: TrialRecord


@dataclasses.dataclass(frozen=True)
class FactsKnown:
    """The defaults have run: the step, the unit, the knobs and the script's notices are known."""

    facts: StudyFacts


@dataclasses.dataclass(frozen=True)
class DiagnosisKnown:
    """The bottleneck of a step of the defaults is known."""

    diagnosis: Diagnosis


@dataclasses.dataclass(frozen=True)
class NoiseKnown:
    """The noise check has finished."""

    noise: Noise


@dataclasses.dataclass(frozen=True)
class Remark:
    """A sentence for the user."""

    text: str


@dataclasses.dataclass(frozen=True)
class ProgressMade:
    """The fraction of the study that is done, from 0 to 1."""

    done: float


Event = (
    TrialStarted
    | PhaseEntered
    | TrialEnded
    | FactsKnown
    | DiagnosisKnown
    | NoiseKnown
    | Remark
    | ProgressMade
)
OnEvent = Callable[[Event], None]


def to_all(*receivers: OnEvent) -> OnEvent:
    """Return a function that passes each event to all of these, in their order."""

    def pass_on(event: Event) -> None:
        for receiver in receivers:
            receiver(event)

    return pass_on
