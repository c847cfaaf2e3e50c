"""Short texts about trials and configurations."""

import dataclasses

from autotuner.report.wording import (
    describe,
    disturbance_text,
    drift_text,
    noise_lines,
    number,
    outcome_text,
    result_text,
)
from autotuner.statistics.sequential import StoppingRule
from autotuner.study.noise import Method
from autotuner.study.record import Figures, Role
from tests.unit.results import FAST, QUIET, a_record


def test_disturbed_trials_say_so() -> None:
    """A trial during which others used the CPUs is marked."""
    record = a_record(1, {}, 1.0, gain_low=1.9, gain_high=2.1, figures=Figures(others_cores=0.82))
    record = dataclasses.replace(record, gain=2.0)
    assert result_text(record) == (
        "100 steps/s  2.00x (1.90-2.10)  (other processes used 0.8 CPUs meanwhile)"
    )
    slow = dataclasses.replace(
        record, figures=Figures(others_cores=0.05), abandoned=True, gain_low=None
    )
    assert result_text(slow) == "100 steps/s  2.00x  (ended early: clearly slower)"
    default = dataclasses.replace(slow, role=Role.DEFAULT, abandoned=False)
    assert result_text(default) == "100 steps/s"


def test_wording() -> None:
    """Configurations are told by what differs; numbers have sensible digits."""
    assert describe({"intra_op": 1, "onednn": "1"}, {"intra_op": 2, "onednn": "1"}) == "intra_op=1"
    assert describe({"intra_op": 2}, {"intra_op": 2}) == "as the default"
    assert [number(v) for v in (12345.6, 123.4, 41.83, 0.5123)] == [
        "12,346",
        "123",
        "41.8",
        "0.512",
    ]


def test_outcomes_have_no_numbers() -> None:
    """A table has columns for those."""
    measured = a_record(1, FAST, 1.2)
    assert outcome_text(measured) == "measured"
    assert outcome_text(dataclasses.replace(measured, abandoned=True)) == "measured, ended early"
    assert outcome_text(a_record(1, FAST, None)) == "crashed: boom"
    unfinished = a_record(1, FAST, None, status=None, reason="")
    assert outcome_text(unfinished) == "not finished"


def test_the_noise_check_in_sentences() -> None:
    """Its method, its floor, and what a final can find; without duels the reason for that."""
    rule = StoppingRule(most_pairs=16, margin=0.02)
    how, floor = noise_lines(QUIET, rule)
    assert how.endswith("(duels)")
    assert floor.startswith("noise floor: 1.0 % from process to process (5.0 % without turns)")
    assert "a final of up to 16 pairs finds" in floor
    alone = dataclasses.replace(QUIET, method=Method.SEQUENTIAL, why="steps are too long")
    assert noise_lines(alone, rule)[0].endswith("not in duels: steps are too long")
    few = StoppingRule(most_pairs=0, margin=0.02)
    assert "a final of" not in noise_lines(QUIET, few)[1]
    once = dataclasses.replace(QUIET, processes=1)
    assert len(noise_lines(once, rule)) == 1


def test_drift_is_mentioned_if_it_is_notable() -> None:
    """From a tenth on, and from three references on."""

    def drifted(*references: float) -> str | None:
        return drift_text([a_record(k, {}, 1.0, reference=r) for k, r in enumerate(references)])

    assert drifted(100.0, 150.0) is None
    assert drifted(100.0, 105.0, 102.0) is None
    assert "1.50 times" in str(drifted(100.0, 150.0, 120.0))


def test_disturbed_trials_are_listed() -> None:
    """By their numbers, the first dozen of them."""
    calm = a_record(0, {}, 1.0, figures=Figures(others_cores=0.1))
    assert disturbance_text([calm], QUIET) is None
    one = a_record(7, {}, 1.0, figures=Figures(others_cores=0.9))
    assert str(disturbance_text([calm, one], QUIET)).endswith("0.9 CPUs during trial 7")
    many = [dataclasses.replace(one, number=k) for k in range(20)]
    assert str(disturbance_text(many, QUIET)).endswith(
        "trials 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more"
    )
