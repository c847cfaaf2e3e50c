"""Who hears how a study gets on: the screen, and the pages that are written meanwhile."""

from collections.abc import Sequence
from typing import Protocol

from autotuner.knobs.knob import Configuration
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.noise import Noise
from autotuner.study.record import Role, StudyFacts, TrialRecord
from autotuner.trial.outcome import Phase


class Listener(Protocol):
    """Whoever wants to know how a study gets on."""

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        """Hear that a trial is about to run."""

    def phase_entered(self, phase: Phase) -> None:
        """Hear what the current trial is doing."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Hear how a trial ended."""

    def facts_known(self, facts: StudyFacts) -> None:
        """Hear what the default's trial has shown: the step, the knobs, notices."""

    def diagnosis_known(self, diagnosis: Diagnosis) -> None:
        """Hear what holds a step of the defaults up."""

    def noise_known(self, noise: Noise) -> None:
        """Hear what the noise check has shown."""

    def remark(self, text: str) -> None:
        """Hear something that the user should know, in a sentence."""

    def progress(self, done: float) -> None:
        """Hear which part of search and final is done, from 0 to 1."""


class Listeners:
    """Several listeners as one, told in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        """Tell all of a trial that is about to run."""
        for one in self._listeners:
            one.trial_started(number, role, configuration)

    def phase_entered(self, phase: Phase) -> None:
        """Tell all of the phase."""
        for one in self._listeners:
            one.phase_entered(phase)

    def trial_ended(self, record: TrialRecord) -> None:
        """Tell all how a trial ended."""
        for one in self._listeners:
            one.trial_ended(record)

    def facts_known(self, facts: StudyFacts) -> None:
        """Tell all the study's facts."""
        for one in self._listeners:
            one.facts_known(facts)

    def diagnosis_known(self, diagnosis: Diagnosis) -> None:
        """Tell all what holds a step up."""
        for one in self._listeners:
            one.diagnosis_known(diagnosis)

    def noise_known(self, noise: Noise) -> None:
        """Tell all what the noise check has shown."""
        for one in self._listeners:
            one.noise_known(noise)

    def remark(self, text: str) -> None:
        """Tell all a sentence."""
        for one in self._listeners:
            one.remark(text)

    def progress(self, done: float) -> None:
        """Tell all which part is done."""
        for one in self._listeners:
            one.progress(done)
