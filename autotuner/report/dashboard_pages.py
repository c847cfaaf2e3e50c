"""What a study shows in optuna-dashboard: notes and plots, written while it runs.

Written in the dashboard's own format, which a test pins: its ``save_note`` reads all attributes of
the study for each note, so that each trial of a long study would take longer than the one before.
"""

import optuna
from optuna.storages import BaseStorage

from autotuner.knobs.knob import Configuration
from autotuner.report.contents import gather
from autotuner.report.notes import study_note, trial_note
from autotuner.report.pictures import pictures
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.noise import Noise
from autotuner.study.record import Role, StudyFacts, TrialRecord
from autotuner.trial.outcome import Phase

_CHUNK = 2045
_GROWTH = 1.1


class DashboardPages:
    """Hears how a study gets on, and keeps its notes and plots in it.

    The study's own note and plots are made anew when a tenth more trials have ended, so that a
    study of any size spends the same part of its time on them.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage) -> None:
        self._study = study
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._facts: StudyFacts | None = None
        self._waiting: list[TrialRecord] = []
        self._ended = 0
        self._refresh_at = 1.0

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        """Nothing is to be written about what has only begun."""

    def phase_entered(self, phase: Phase) -> None:
        """Nothing is to be written about a phase."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Write the trial's note; now and then all of the study's."""
        self._ended += 1
        self._waiting.append(record)
        if self._facts is None:
            return
        for one in self._waiting:
            self._write_note(one, self._facts)
        self._waiting = []
        if self._ended >= self._refresh_at:
            self.refresh()

    def facts_known(self, facts: StudyFacts) -> None:
        """Remember what trials' notes need, and write the study's."""
        self._facts = facts
        self.refresh()

    def diagnosis_known(self, diagnosis: Diagnosis) -> None:
        """Write the study's note with what holds a step up."""
        self.refresh()

    def noise_known(self, noise: Noise) -> None:
        """Write the study's note with the noise floor."""
        self.refresh()

    def remark(self, text: str) -> None:
        """A remark is for whoever watches the run."""

    def progress(self, done: float) -> None:
        """The bar is for whoever watches the run."""

    def refresh(self) -> None:
        """Write the study's note and its plots as of now."""
        contents = gather(self._study)
        if contents is None:
            return
        self._refresh_at = max(self._refresh_at, _GROWTH * self._ended)
        self._write("note_str", study_note(contents), versioned="note_ver")
        for picture in pictures(contents):
            self._write(f"plot_data:{picture.name}", picture.figure.to_json())

    def _write_note(self, record: TrialRecord, facts: StudyFacts) -> None:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(
            self._study_id, record.number
        )
        key = f"{trial_id}:note_str"
        self._write(key, trial_note(record, facts), versioned=f"{trial_id}:note_ver", fresh=True)

    def _write(self, key: str, text: str, *, versioned: str = "", fresh: bool = False) -> None:
        """Write a text in pieces, blank what is left of a longer one, then its version.

        Args:
            key: without what all keys of the dashboard begin with.
            text: what to write.
            versioned: key of its version, if it has one.
            fresh: it has not been written before.
        """
        known = {} if fresh else self._storage.get_study_system_attrs(self._study_id)
        pieces = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
        old = sum(name.startswith(f"dashboard:{key}:") for name in known)
        for number in range(max(len(pieces), old)):
            name = f"dashboard:{key}:{number}"
            piece = pieces[number] if number < len(pieces) else ""
            if known.get(name) != piece:
                self._storage.set_study_system_attr(self._study_id, name, piece)
        if versioned:
            name = f"dashboard:{versioned}"
            self._storage.set_study_system_attr(self._study_id, name, known.get(name, 0) + 1)
