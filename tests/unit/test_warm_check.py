"""Whether trials may be forked, from forked and started processes of the defaults."""

import math

import pytest

from autotuner.study.warm_check import WarmCheck, judge_warm, start_timeout_s

CANDIDATE = WarmCheck(used=True, why="", modules=("tensorflow",), start_timeout_s=30)
POOLS = {"python": 7, "tf_Compute": 2}


@pytest.mark.parametrize(
    ("started", "forked", "between", "pools", "used", "why"),
    [
        ([0.01, -0.01], [0.0, 0.01], 0.02, [POOLS] * 3, True, "no difference"),
        ([], [0.01], 0.02, [POOLS] * 2, True, "no difference"),
        ([0.0, 0.01], [-0.1, -0.12], 0.02, [POOLS] * 3, False, "differs"),
        (
            [0.0, 0.01],
            [-0.1, -0.12],
            0.2,
            [POOLS] * 3,
            False,
            "differs",
        ),  # too much in any case
        ([0.0], [0.0], 0.02, [POOLS, {**POOLS, "tf_Compute": 1}], False, "other threads"),
        ([0.0], [], 0.02, [POOLS], False, "fail"),
    ],
)
def test_judgement(
    started: list[float],
    forked: list[float],
    between: float,
    pools: list[dict[str, int]],
    used: bool,
    why: str,
) -> None:
    """Forks are used only if neither speed nor threads differ; the result has an interval."""
    found = judge_warm(started, forked, between, pools, CANDIDATE)
    assert found.used is used
    assert why in found.why
    assert (found.warm_start is not None) is used
    if found.ratio is not None and found.low is not None and found.high is not None:
        assert found.low < found.ratio < found.high
        mean = sum(forked) / len(forked) - (sum(started) / len(started) if started else 0)
        assert found.ratio == pytest.approx(math.exp(mean))


def test_a_hang_is_known_by_the_time_of_a_started_process() -> None:
    """The limit is five times as long, at least 20 s, and at most the study's own."""
    assert start_timeout_s(10.0, 300.0) == 50.0
    assert start_timeout_s(1.0, 300.0) == 20.0
    assert start_timeout_s(100.0, 300.0) == 300.0
