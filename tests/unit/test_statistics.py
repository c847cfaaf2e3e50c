"""Statistics on known distributions: intervals cover the truth, ratios are correct."""

import dataclasses
import math
import random
from pathlib import Path

import pytest

from autotuner.options.study_spec import Objective
from autotuner.statistics.comparison import compare_rounds, corrected, gain_of, running_medians
from autotuner.statistics.interval import (
    effective_size,
    hodges_lehmann,
    median_interval,
    percentile,
)
from autotuner.statistics.shape import trend, two_modes
from autotuner.statistics.throughput import (
    Unit,
    knows_samples,
    measured_windows,
    step_percentiles_ms,
    summarize,
)
from autotuner.trial.outcome import Outcome, Round, Status, Turn, Window


def window(rate: float, *, warmup: bool = False, samples: int | None = None) -> Window:
    """Return a window of a second."""
    return Window(warmup=warmup, start_s=0, duration_s=1000 / rate, steps=1000, samples=samples)


def outcome(*windows: Window, source: str = "keras") -> Outcome:
    """Return a measured outcome."""
    return Outcome(status=Status.MEASURED, folder=Path(), windows=windows, source=source)


@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy"])
@pytest.mark.parametrize("n", [6, 15, 40])
def test_the_median_s_interval_covers(shape: str, n: int) -> None:
    """The 95 % interval holds the true median in at least 94 % of the samples of any shape.

    Few values that happen to resemble their neighbours get none.
    """
    generator = random.Random(f"{shape} {n}")
    draw = {
        "normal": (lambda: generator.gauss(0, 1), 0.0),
        "skewed": (lambda: generator.lognormvariate(0, 1), 1.0),
        "heavy": (lambda: generator.gauss(0, 1) / abs(generator.gauss(0, 1)), 0.0),
    }[shape]
    given = covered = 0
    for _ in range(2000):
        interval = median_interval([draw[0]() for _ in range(n)])
        if interval is not None:
            given += 1
            covered += interval[0] <= draw[1] <= interval[1]
    assert covered >= 0.94 * given
    assert given > (1000 if n == 6 else 1800)


def test_too_few_values_have_no_interval() -> None:
    """Five values give no 95 % interval of the median; six give their range."""
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([6, 1, 5, 2, 4, 3]) == (1, 6)


def test_the_warm_up_does_not_count() -> None:
    """Only windows after the warm-up count, and an outlier does not move the throughput."""
    windows = [window(10, warmup=True), *(window(100) for _ in range(8)), window(3)]
    throughput = summarize(outcome(*windows), count_samples=False)
    assert throughput is not None
    assert throughput.value == pytest.approx(100)
    assert (throughput.unit, throughput.windows) == (Unit.STEPS, 9)


def test_a_script_that_never_got_warm() -> None:
    """If there is only warm-up, its later half counts."""
    windows = [window(rate, warmup=True) for rate in (10, 50, 100, 100)]
    assert measured_windows(outcome(*windows)) == tuple(windows[2:])


def test_units() -> None:
    """Samples if all windows know them and the study counts them; runs for whole processes."""
    known = outcome(*(window(10, samples=32_000) for _ in range(6)))
    throughput = summarize(known, count_samples=True)
    assert throughput is not None
    assert throughput.value == pytest.approx(320)
    assert throughput.unit is Unit.SAMPLES
    assert summarize(known, count_samples=False).unit is Unit.STEPS  # type: ignore[union-attr]
    partly = outcome(window(10, samples=32), window(10))
    assert not knows_samples(partly)
    assert summarize(partly, count_samples=True).unit is Unit.STEPS  # type: ignore[union-attr]
    process = outcome(window(10), source="process")
    assert summarize(process, count_samples=False).unit is Unit.RUNS  # type: ignore[union-attr]


def test_nothing_measured_is_no_number() -> None:
    """No window, or windows without steps, give None rather than zero or infinity."""
    empty = Window(warmup=False, start_s=0, duration_s=0.0, steps=5, samples=None)
    assert summarize(outcome(), count_samples=False) is None
    assert summarize(outcome(empty), count_samples=False) is None


def autoregressive(generator: random.Random, n: int, r: float) -> list[float]:
    """Return an AR(1) series around 0 whose values have unit variance."""
    value, series = generator.gauss(0, 1), []
    for _ in range(n):
        value = r * value + math.sqrt(1 - r * r) * generator.gauss(0, 1)
        series.append(value)
    return series


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("of", ["median", "hodges_lehmann"])
def test_intervals_of_neighbours_that_resemble_each_other(of: str, r: float) -> None:
    """For 40 autocorrelated values the 95 % interval covers the centre at the stated rate."""
    generator = random.Random(f"{of} {r}")
    covered = 0
    for _ in range(1000):
        series = autoregressive(generator, 40, r)
        if of == "median":
            interval = median_interval(series)
        else:
            _, low, high = hodges_lehmann(series)
            interval = None if low is None or high is None else (low, high)
        covered += interval is None or interval[0] <= 0 <= interval[1]
    assert covered >= 930


def test_ignoring_autocorrelation_would_show() -> None:
    """The test above can fail: without the correction the intervals cover far less often."""
    generator = random.Random(1)
    sizes = [effective_size(autoregressive(generator, 40, 0.6)) for _ in range(200)]
    assert sum(sizes) / len(sizes) < 20
    independent = [effective_size([generator.gauss(0, 1) for _ in range(40)]) for _ in range(200)]
    assert sum(independent) / len(independent) > 28


@pytest.mark.parametrize("shape", ["normal", "heavy", "one in ten is far off"])
def test_the_centre_of_rounds(shape: str) -> None:
    """With eight rounds the interval covers the centre, with outliers as well."""
    generator = random.Random(shape)

    def draw() -> float:
        if shape == "heavy":
            return generator.gauss(0, 1) / abs(generator.gauss(0, 1))
        if shape == "normal" or generator.random() > 0.1:
            return generator.gauss(0, 1)
        return generator.choice((-1, 1)) * 30.0

    covered = 0
    for _ in range(1000):
        _, low, high = hodges_lehmann([draw() for _ in range(8)])
        assert low is not None
        assert high is not None
        covered += low <= 0 <= high
    assert covered >= 930


def turn(rate: float, step_s: float = 0.01) -> Turn:
    """Return a turn of a quarter of a second."""
    return Turn(
        start_s=0,
        duration_s=0.25,
        steps=0.25 * rate,
        samples=None,
        step_s=(step_s,) * 9 + (3 * step_s,),
        cpu_s=0.5,
        turn_s=0.25,
    )


def test_a_steady_drift_cancels_in_a_duel() -> None:
    """Each turn of the candidate is compared with the turns before and after it."""
    speeds = [100 * 0.9**k for k in range(13)]  # a tenth slower with every turn
    rounds = [
        Round(reference=turn(speeds[2 * k]), candidate=turn(1.2 * speeds[2 * k + 1]))
        for k in range(6)
    ]
    seen = compare_rounds(rounds, turn(speeds[12]), Objective.THROUGHPUT, Unit.STEPS)
    assert seen is not None
    assert (seen.gain, seen.low, seen.high) == pytest.approx((1.2, 1.2, 1.2))
    assert seen.rounds == 6


def test_single_turns_that_are_far_off() -> None:
    """The gain is stable if one turn of each side is off by a factor."""
    speeds = [100.0] * 7
    speeds[3] = 400.0
    rounds = [
        Round(reference=turn(speeds[k]), candidate=turn(30.0 if k == 5 else 110.0 + k / 10))
        for k in range(7)
    ]
    seen = compare_rounds(rounds, turn(100.0), Objective.THROUGHPUT, Unit.STEPS)
    assert seen is not None
    assert seen.gain == pytest.approx(1.1, abs=0.01)
    assert running_medians([1.0, 2.0, 3.0, 4.0]) == [1.0, 2.0, 3.0, 4.0]
    assert running_medians([9.0, 2.0, 3.0, 4.0]) == pytest.approx([2.0, 3.0, 3.0, 4.0], abs=1.1)
    assert running_medians([1.0, 5.0]) == [1.0, 5.0]


def test_every_objective_gains_above_one() -> None:
    """Above 1 is better for every objective: shorter steps, more throughput, less CPU time."""
    rounds = [Round(reference=turn(100, 0.01), candidate=turn(200, 0.005))] * 6
    for objective in Objective:
        seen = compare_rounds(rounds, None, objective, Unit.STEPS)
        assert seen is not None
        assert seen.gain == pytest.approx(2)
        score = corrected(10.0, seen.gain, objective)
        assert gain_of(score, 10.0, objective) == pytest.approx(2)
    assert corrected(10.0, 2.0, Objective.LATENCY_P99) == 5.0
    assert corrected(10.0, 2.0, Objective.CPU_EFFICIENCY) == 20.0


def test_step_percentiles() -> None:
    """Nearest rank: the 99th of a hundred values; the largest of a few."""
    assert percentile(range(1, 101), 99) == 99
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    measured = dataclasses.replace(outcome(window(10)), step_s=(0.01,) * 98 + (0.05, 0.05))
    expected = {"p50": 10.0, "p95": 10.0, "p99": 50.0}
    assert step_percentiles_ms(measured) == pytest.approx(expected)
    assert step_percentiles_ms(outcome(window(10))) == {}


def test_two_modes_are_seen() -> None:
    """If every third step takes three times as long, there are two kinds; a wide spread is one."""
    generator = random.Random(0)
    jitter = [math.exp(generator.gauss(0, 0.05)) for _ in range(300)]
    found = two_modes([j * (0.03 if k % 3 == 0 else 0.01) for k, j in enumerate(jitter)])
    assert found is not None
    assert found[0] == pytest.approx(1 / 3, abs=0.01)
    assert found[1] == pytest.approx(3, rel=0.05)
    assert two_modes([0.01 * j for j in jitter]) is None
    assert two_modes([0.01 * j**10 for j in jitter]) is None
    assert two_modes([0.01 * (1 + generator.expovariate(2)) for _ in range(300)]) is None
    assert two_modes([0.01, 0.03] * 5) is None


def test_trends_are_seen() -> None:
    """A slowdown by a fifth is a trend; noise is none, even if autocorrelated."""
    generator = random.Random(0)
    slowing = [100 * (1 - 0.2 * k / 29) * math.exp(generator.gauss(0, 0.03)) for k in range(30)]
    assert trend(slowing) == pytest.approx(-0.22, abs=0.05)
    assert trend(slowing[::-1]) == pytest.approx(0.22, abs=0.05)
    false = 0
    for _ in range(300):
        series = autoregressive(generator, 30, 0.3)
        false += trend([100 * math.exp(0.03 * x) for x in series]) is not None
    assert false <= 9
    assert trend([1.0] * 5) is None
