"""Statistics on known distributions: intervals cover, ratios are what they should be."""

import random
from pathlib import Path

import pytest

from autotuner.statistics import (
    Unit,
    knows_samples,
    measured_windows,
    median_interval,
    ratio_of_pairs,
    summarize,
)
from autotuner.trial.outcome import Outcome, Status, Window


def window(rate: float, *, warmup: bool = False, samples: int | None = None) -> Window:
    """Return a window of a second."""
    return Window(warmup=warmup, start_s=0, duration_s=1000 / rate, steps=1000, samples=samples)


def outcome(*windows: Window, source: str = "keras") -> Outcome:
    """Return a measured outcome."""
    return Outcome(status=Status.MEASURED, folder=Path(), windows=windows, source=source)


@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy"])
@pytest.mark.parametrize("n", [6, 15, 40])
def test_the_median_s_interval_covers(shape: str, n: int) -> None:
    """The 95 % interval holds the true median in at least 94 % of 2,000 samples of any shape."""
    generator = random.Random(f"{shape} {n}")
    draw = {
        "normal": (lambda: generator.gauss(0, 1), 0.0),
        "skewed": (lambda: generator.lognormvariate(0, 1), 1.0),
        "heavy": (lambda: generator.gauss(0, 1) / abs(generator.gauss(0, 1)), 0.0),
    }[shape]
    covered = 0
    for _ in range(2000):
        interval = median_interval([draw[0]() for _ in range(n)])
        assert interval is not None
        covered += interval[0] <= draw[1] <= interval[1]
    assert covered >= 0.94 * 2000


def test_too_few_values_have_no_interval() -> None:
    """Five values can't give a 95 % interval of the median; six give their range."""
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([6, 1, 5, 2, 4, 3]) == (1, 6)


def test_the_warm_up_does_not_count() -> None:
    """Only windows after the warm-up make the throughput, and an outlier does not move it."""
    windows = [window(10, warmup=True), *(window(100) for _ in range(8)), window(3)]
    throughput = summarize(outcome(*windows), count_samples=False)
    assert throughput is not None
    assert throughput.value == pytest.approx(100)
    assert (throughput.unit, throughput.windows) == (Unit.STEPS, 9)


def test_a_script_that_never_got_warm() -> None:
    """Where nothing but warm-up was seen, its later half counts."""
    windows = [window(rate, warmup=True) for rate in (10, 50, 100, 100)]
    assert measured_windows(outcome(*windows)) == tuple(windows[2:])


def test_units() -> None:
    """Samples where all windows know them and the study counts them; runs for whole processes."""
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


def test_ratios_of_pairs() -> None:
    """The speed-up is the median over pairs, so that drift between pairs cancels."""
    ratio = ratio_of_pairs([(110, 100), (60, 50), (1000, 1000)])
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (1.1, 1.0, 1.2, 3)
    assert ratio_of_pairs([]) is None
