"""Break-even."""

import pytest

from autotuner.verdict.payback import payback


def test_tuning_has_paid_when_what_is_saved_is_what_it_cost() -> None:
    """At 2x a job of an hour takes half an hour less."""
    found = payback(1800, 2.0)
    assert found is not None
    assert (found.tuning_s, found.saved_per_hour_s) == (1800, 1800)
    assert found.break_even_s == pytest.approx(3600)


@pytest.mark.parametrize("ratio", [1.0, 0.9])
def test_without_a_gain_it_never_pays(ratio: float) -> None:
    """Nor does a loss."""
    assert payback(1800, ratio) is None
