"""What a study shows in optuna-dashboard: notes and plots, written while it runs.

Written in the dashboard's own format, which a test pins: its ``save_note`` reads all attributes of
the study for each note, so that each trial of a long study would take longer than the one before.
"""

from typing import Any

from autotuner.report.notes import study_note, trial_note
from autotuner.report.pictures import pictures
from autotuner.study.events import DiagnosisKnown, Event, FactsKnown, NoiseKnown, TrialEnded
from autotuner.study.memory import SUMMARY, Memory, Summary
from autotuner.study.record import TrialRecord
from autotuner.study.storage import Storage
from autotuner.study.studies import Study
from autotuner.study.study_facts import StudyFacts
from autotuner.verdict.result import load_result
from autotuner.verdict.sentences import brief

_CHUNK = 2045
REFRESHED_AT, _LEAST = 1.1, 5
_VERSION = "dashboard:note_ver"


class DashboardPages:
    """Keeps notes and plots in a study while it runs; receives its events.

    The study's own note and plots are made anew when a tenth more trials have ended, and at least
    five more, so that a study of any size spends the same part of its time on them.

    Args:
        study: the study.
        storage: where it is.
        whole: write the study's own, too; of several workers one does.
    """

    def __init__(self, study: Study, storage: Storage, *, whole: bool = True) -> None:
        self._whole = whole
        self._study = study
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._facts: StudyFacts | None = None
        self._waiting: list[TrialRecord] = []
        self._refresh_at = 1.0
        self._known: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        """Write what an event changes."""
        match event:
            case TrialEnded(record):
                self._write_trial(record)
            case FactsKnown(facts):
                self._facts = facts
                self.refresh()
            case DiagnosisKnown() | NoiseKnown():
                self.refresh()
            case _:
                pass  # the rest is for the user who watches the run

    def _write_trial(self, record: TrialRecord) -> None:
        """Write the trial's note; from time to time all of the study's."""
        self._waiting.append(record)
        if self._facts is None:
            return
        for one in self._waiting:
            self._write_note(one, self._facts)
        self._waiting = []
        if record.number + 1 >= self._refresh_at:
            self.refresh()

    def refresh(self) -> None:
        """Write the study's note and its plots as of now."""
        if not self._whole:
            return
        result = load_result(self._study)
        if result is None:
            return
        self._refresh_at = max(REFRESHED_AT * len(result.records), len(result.records) + _LEAST)
        trials = len(self._study.get_trials(deepcopy=False))
        summary = Summary(text=brief(result.decision), trials=trials)
        Memory(self._study).write(SUMMARY, summary)
        if not self._known:  # once: there may be very many
            self._known = dict(self._storage.get_study_system_attrs(self._study_id))
        self._write("dashboard:note_str", study_note(result), self._known)
        version = int(self._known.get(_VERSION, 0)) + 1
        self._set(_VERSION, version, self._known)
        for picture in pictures(result):
            key = f"dashboard:plot_data:{picture.name}"
            self._write(key, picture.figure.to_json(), self._known)

    def _write_note(self, record: TrialRecord, facts: StudyFacts) -> None:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(
            self._study_id, record.number
        )
        self._write(f"dashboard:{trial_id}:note_str", trial_note(record, facts), {})
        self._set(f"dashboard:{trial_id}:note_ver", 1, {})

    def _write(self, key: str, text: str, known: dict[str, Any]) -> None:
        """Write a text in pieces, and blank what is left of a longer one.

        Args:
            key: what the pieces' keys begin with.
            text: what to write.
            known: what the study holds under such keys; brought up to date.
        """
        pieces = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
        number = 0
        while number < len(pieces) or f"{key}:{number}" in known:
            self._set(f"{key}:{number}", pieces[number] if number < len(pieces) else "", known)
            number += 1

    def _set(self, key: str, value: str | int, known: dict[str, Any]) -> None:
        if known.get(key) != value:
            self._storage.set_study_system_attr(self._study_id, key, value)
            known[key] = value
