"""Which configuration to recommend, decided on records alone."""

import dataclasses
from collections.abc import Sequence

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.statistics.sequential import StoppingRule, Verdict
from autotuner.study.record import Figures, Role, TrialRecord, configuration_key
from autotuner.verdict.decision import (
    Baselines,
    Decision,
    candidates,
    count_finals,
    decide,
    final_failures,
    final_pairs,
    since_search,
    up_to_search,
)
from autotuner.verdict.numerics import Numerics
from tests.unit.results import A_FINAL, A_SEARCH, FAST, QUIET, a_record, pairs_of

DEFAULT: Configuration = {"intra_op": 4, "inter_op": 4, "onednn": "1"}
BEST: Configuration = {**DEFAULT, **FAST}
RULE = StoppingRule(most_pairs=8, margin=0.02)


def decision(records: Sequence[TrialRecord], **fields: object) -> Decision:
    """Return the decision on records."""
    found = decide(
        records,
        Baselines(default=DEFAULT, recipe={**DEFAULT, "intra_op": 1}),
        rule=RULE,
        **fields,  # type: ignore[arg-type]
    )
    assert found is not None
    return found


def test_without_the_defaults_there_is_no_decision() -> None:
    """Gains are over them."""
    assert decide(A_SEARCH[1:], Baselines(default=DEFAULT, recipe={}), rule=RULE) is None


def test_trials_of_one_configuration_are_pooled() -> None:
    """By their geometric mean; what failed is no candidate."""
    again = a_record(9, FAST, 1.26 * 1.21)
    found = {c.configuration["intra_op"]: c for c in candidates([*A_SEARCH, again], DEFAULT)}
    assert found[2].gain == pytest.approx(1.26 * 1.1)
    assert found[2].trials == 2
    assert all(c.configuration["inter_op"] == 4 for c in found.values())


def test_the_model_names_the_finalist_before_any_race() -> None:
    """The luckiest trial is not the best configuration."""
    lucky = decision(A_SEARCH)
    assert lucky.best.configuration == BEST
    key = A_SEARCH[3].key(DEFAULT)
    modelled = decision(A_SEARCH, estimate=lambda: {key: 1.0})
    assert modelled.best.configuration == {**DEFAULT, "onednn": "0"}


def test_the_race_names_the_finalist_by_its_own_processes() -> None:
    """Of those that stayed to the end; one that failed is out."""
    onednn: Configuration = {"onednn": "0"}
    race = [
        a_record(5, FAST, 1.05, role=Role.RACE, race_round=0),
        a_record(6, onednn, 1.10, role=Role.RACE, race_round=0),
        a_record(7, {"intra_op": 1}, 1.5, role=Role.RACE, race_round=0),
        a_record(8, FAST, 1.05, role=Role.RACE, race_round=1),
        a_record(9, onednn, 1.10, role=Role.RACE, race_round=1),
    ]
    assert decision([*A_SEARCH, *race]).best.configuration == {**DEFAULT, **onednn}
    failed = a_record(10, onednn, None, role=Role.RACE, race_round=2)
    assert decision([*A_SEARCH, *race, failed]).best.configuration == BEST


def test_the_final_decides() -> None:
    """On pairs of new processes alone; estimates of the search stay beside it."""
    found = decision((*A_SEARCH, *A_FINAL))
    assert found.verdict is Verdict.FASTER
    assert found.finding is not None
    assert found.finding.ratio == pytest.approx(1.254, abs=0.001)
    assert found.best.gain == pytest.approx(1.26)
    assert found.recipe is not None
    assert found.recipe.gain == pytest.approx(0.9)
    assert found.recommended == found.best
    assert found.pair_s == 10.0


def test_disturbed_pairs_do_not_count() -> None:
    """Those during which other processes used more of the machine than in the noise check."""
    loud = [dataclasses.replace(r, figures=Figures(others_cores=2.0)) for r in A_FINAL[:4]]
    records = [*A_SEARCH, *loud, *A_FINAL[4:]]
    found = decision(records, noise=QUIET)
    assert found.finding is not None
    assert (found.finding.pairs, found.disturbed_pairs) == (6, 2)
    assert len(final_pairs(records, BEST, DEFAULT, None)) == 8


def test_a_finalist_that_fails_is_not_recommended() -> None:
    """Even if its other pairs were faster."""
    crash = a_record(30, FAST, None, role=Role.FINAL, pair=9)
    records = (*A_SEARCH, *A_FINAL, crash)
    found = decision(records)
    assert final_failures(records, BEST, DEFAULT) == found.final_failures == 1
    assert found.is_faster
    assert found.recommended == found.default


@pytest.mark.parametrize("differs", [True, False, None])
@pytest.mark.parametrize("strict", [False, True])
def test_strict_numerics_refuse_what_may_change_results(strict: bool, differs: bool | None) -> None:
    """What the guard can't tell counts as a change."""
    numerics = Numerics(differs=differs, text="", about=configuration_key(BEST))
    found = decision((*A_SEARCH, *A_FINAL), numerics=numerics, strict=strict)
    assert found.refused is (strict and differs is not False)
    assert found.is_recommended is not found.refused


def test_machines_that_disagree_leave_it_open() -> None:
    """A mean over machines of two kinds says little of either."""
    one = pairs_of(FAST, [1.5, 1.52, 1.49, 1.51], 5)
    other = [
        a_record(
            20 + r.number,
            r.configuration,
            0.8 if r.configuration else 1.0,
            role=r.role,
            pair=10 + (r.pair or 0),
            machine="other",
        )
        for r in one
    ]
    found = decision([*A_SEARCH, *one, *other])
    assert found.machines_disagree
    assert [machine.machine for machine in found.machines] == ["h", "other"]
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_new_search_makes_another_final() -> None:
    """Races and finals before the last trial of the search are past."""
    later = a_record(40, {"intra_op": 1}, 1.0)
    records = [*A_SEARCH, *A_FINAL, later]
    assert list(up_to_search(records)) == records
    assert list(since_search(records)) == []
    assert count_finals(records) == 2
    assert decision(records).finding is None
    assert count_finals([*records, *pairs_of(FAST, [1.2], 41)]) == 2
    assert count_finals(A_SEARCH) == count_finals([*A_SEARCH, *A_FINAL]) == 1
