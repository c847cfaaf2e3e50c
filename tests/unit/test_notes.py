"""The notes in the dashboard."""

import dataclasses
from pathlib import Path

from autotuner.report.notes import study_note, trial_note
from autotuner.study.record import Role
from tests.unit.results import FAST, a_record, a_result


def test_a_studys_note_explains_the_columns(tmp_path: Path) -> None:
    """After the sections, without those that are bulky."""
    note = study_note(a_result(tmp_path))
    assert note.startswith("# s\n\n## Verdict\n\n**FASTER: ")
    assert "| others\\_cores |" in note or "| others_cores |" in note
    assert "A trial's value is in steps/s" in note
    assert "## Every trial" not in note


def test_a_trials_note(tmp_path: Path) -> None:
    """Its role, outcome, gain, settings with their defaults, and how to repeat it."""
    facts = a_result(tmp_path).facts
    record = a_record(2, FAST, 1.26, gain_low=1.2, gain_high=1.32, folder="/f/0002")
    note = trial_note(record, facts)
    assert note.startswith("**search**: 126 steps/s 1.26x (1.20-1.32)\n")
    assert "1.26x (1.20-1.32) the default beside it." in note
    assert "| intra_op | 2 | 4 |" in note
    assert "```sh\nsh /f/0002/repro.sh\n```" in note


def test_a_failed_trial_shows_its_last_lines(tmp_path: Path) -> None:
    """As code, whatever they are."""
    record = dataclasses.replace(
        a_record(4, {}, None, role=Role.DEFAULT), last_lines=("ValueError: <b>", "boom")
    )
    note = trial_note(record, a_result(tmp_path).facts)
    assert "crashed: boom" in note
    assert "Every setting is at its default." in note
    assert "```\nValueError: <b>\nboom\n```" in note
