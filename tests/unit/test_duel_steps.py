"""Steps in the turns of a duel: their running times, and which of them are pauses."""

import pytest

from autotuner.trial.duel import (
    DuelPlan,
    Stretch,
    pause_limit,
    pauses_are_rare,
    place_steps,
)
from autotuner.trial.live_trial import Mark

PLAN = DuelPlan(slice_s=0.3, settle_s=0.06)
# two turns of 0.3 s with a stop of 0.3 s between them
TURNS = [Stretch(0.0, 0.3, 0.0), Stretch(0.6, 0.9, 0.0)]


def test_a_step_that_is_stopped_ran_only_in_its_turns() -> None:
    """A step of 0.05 s with a stop of 0.3 s in its middle has run for 0.05 s."""
    mark = Mark(end_s=0.62, length_s=0.35, steps=1, samples=32)
    (placed,) = place_steps([mark], TURNS, PLAN)
    assert placed.length_s == pytest.approx(0.05)
    # the part before the stop counts; the part after it is within settle_s
    ((turn, counted),) = placed.counts
    assert turn == 0
    assert counted == pytest.approx(0.03)


def test_what_was_begun_before_the_duel_does_not_count() -> None:
    """A step that began before the duel does not count."""
    mark = Mark(end_s=0.1, length_s=4.0, steps=1, samples=None)
    assert place_steps([mark], TURNS, PLAN) == []


def test_stops_make_no_pauses() -> None:
    """With 22 ms steps, one of thirteen in each turn is interrupted; none is a pause."""
    marks, now = [], 0.0
    turns = [Stretch(0.6 * k, 0.6 * k + 0.3, 0.0) for k in range(10)]
    ran, begin = 0.0, 0.0
    for _ in range(130):
        ran += 0.0221
        turn, within = divmod(ran, 0.3)
        now = 0.6 * turn + within
        if now > turns[-1].end_s:
            break
        marks.append(Mark(end_s=now, length_s=now - begin, steps=1, samples=32))
        begin = now
    assert max(mark.length_s for mark in marks) > 10 * 0.0221
    lengths = [one.step_s for one in place_steps(marks, turns, PLAN)]
    assert lengths == pytest.approx([0.0221] * len(marks))
    assert not pauses_are_rare([lengths, lengths])


@pytest.mark.parametrize(
    ("pauses", "rare"), [(0, False), (1, True), (8, True), (20, False), (50, False)]
)
def test_pauses_are_left_out_where_they_are_rare(pauses: int, rare: bool) -> None:
    """Ends of epochs are pauses; if every tenth step waits for its input, none is."""
    lengths = [0.02] * (200 - pauses) + [1.1] * pauses
    assert pauses_are_rare([lengths, [0.02] * 100]) is rare


def test_a_few_steps_tell_no_pauses() -> None:
    """With fewer than thirty steps no step is a pause."""
    assert pause_limit([0.02] * 29) == float("inf")
    assert pause_limit([0.02] * 30) == pytest.approx(0.2)
