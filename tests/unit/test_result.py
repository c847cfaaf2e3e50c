"""A study's result: what follows from its records."""

import dataclasses
import math
from pathlib import Path

import pytest

from autotuner.statistics.sequential import Verdict
from tests.unit.results import A_SEARCH, FAST, a_result, decided


def test_the_decision_follows_from_the_records(tmp_path: Path) -> None:
    """The best of the search, proven by pairs of new processes."""
    result = a_result(tmp_path)
    assert result.decision.is_recommended
    assert {**result.facts.space.default, **FAST} == result.decision.recommended.configuration
    assert result.sentence.startswith("FASTER: 1.25x")
    assert [round(math.exp(pair.log), 2) for pair in result.final_pairs][:3] == [1.24, 1.26, 1.25]


def test_without_a_final_nothing_is_proven(tmp_path: Path) -> None:
    """The search alone recommends nothing."""
    result = a_result(tmp_path, records=A_SEARCH)
    assert result.decision.verdict is Verdict.INCONCLUSIVE
    assert result.decision.recommended == result.decision.default
    assert result.payback is None
    assert result.final_pairs == []


def test_payback_counts_from_what_tuning_took(tmp_path: Path) -> None:
    """A fifth of each hour is saved at 1.25x, so ten minutes of tuning have paid after fifty."""
    result = a_result(tmp_path)
    assert result.decision.finding is not None
    finding = dataclasses.replace(result.decision.finding, ratio=1.25)
    found = decided(result, finding=finding).payback
    assert found is not None
    assert found.saved_per_hour_s == pytest.approx(720)
    assert found.break_even_s == pytest.approx(3000)


def test_effects_are_of_the_settings_that_were_measured(tmp_path: Path) -> None:
    """What crashed has none; each value counts its trials."""
    result = a_result(tmp_path)
    found = {(one.knob, one.value): one for one in result.effects}
    assert set(found) == {("intra_op", 1), ("intra_op", 2), ("onednn", "0")}
    assert found["intra_op", 2].trials == 9
    assert found["onednn", "0"].trials == 10
    assert found["intra_op", 2].ratio > 1 > found["intra_op", 1].ratio
    assert all(one.low <= one.ratio <= one.high for one in found.values())


def test_the_defaults_alone_have_no_effects(tmp_path: Path) -> None:
    """There is nothing to fit."""
    assert a_result(tmp_path, records=A_SEARCH[:1]).effects == ()
