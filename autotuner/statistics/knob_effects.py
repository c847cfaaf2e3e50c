"""What each value of each knob seems to do by itself, from all trials of a search together.

Indicative only: effects are taken as additive in the logarithm, which knobs need not be, and a
search does not try values evenly. What is proven is proven by final pairs.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autotuner.knobs.knob import Configuration, KnobValue

CONFIDENCE = 0.95
_NORMAL_QUANTILE = 1.96
_SIGNAL_TO_NOISE = np.logspace(-3, 3, 61)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnobEffect:
    """The gain of one value of a knob over the knob's default, all else equal.

    ``ratio``: more than 1 is better; ``low`` and ``high``: 95 % credible interval. ``trials``: in
    how many it was tried.
    """

    knob: str
    value: KnobValue
    ratio: float
    low: float
    high: float
    trials: int


def knob_effects(
    tried: Sequence[tuple[Configuration, float]], default: Configuration
) -> list[KnobEffect]:
    """Return the effects of all values that were tried, by knob and then by value.

    Bayesian linear regression of log gains on the values that differ from the default; the default
    itself has the gain 1, so there is no intercept. The variances of noise and of effects are those
    of greatest marginal likelihood (Bishop, Pattern Recognition and Machine Learning, 3.5).

    Args:
        tried: configurations, and log gains over the default.
        default: the value of each knob to which effects are relative.
    """
    columns = _columns([configuration for configuration, _ in tried], default)
    if not columns:
        return []
    x = np.zeros((len(tried), len(columns)))
    for row, (configuration, _) in enumerate(tried):
        for name, value in configuration.items():
            column = columns.get((name, value))
            if column is not None:
                x[row, column] = 1.0
    y = np.array([log_gain for _, log_gain in tried])
    means, deviations = _posterior(x, y)
    half = _NORMAL_QUANTILE * deviations
    counts = x.sum(0)
    return [
        KnobEffect(
            knob=knob,
            value=value,
            ratio=float(np.exp(means[k])),
            low=float(np.exp(means[k] - half[k])),
            high=float(np.exp(means[k] + half[k])),
            trials=int(counts[k]),
        )
        for (knob, value), k in columns.items()
    ]


def _columns(
    configurations: Sequence[Configuration], default: Configuration
) -> Mapping[tuple[str, KnobValue], int]:
    """Return the column of each (knob, value) that differs from the default."""
    found: list[tuple[str, KnobValue]] = []
    for name, usual in default.items():
        values = {c[name] for c in configurations if name in c} - {usual}
        numbers = sorted(v for v in values if isinstance(v, int))
        texts = sorted(v for v in values if isinstance(v, str))
        found += [(name, value) for value in numbers]
        found += [(name, value) for value in texts]
    return {pair: k for k, pair in enumerate(found)}


def _posterior(x: Any, y: Any) -> tuple[Any, Any]:
    """Return posterior means and standard deviations of the coefficients."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    z = u.T @ y
    outside = max(0.0, float(y @ y - z @ z))
    best = (-np.inf, 1.0, 1.0)
    for ratio in _SIGNAL_TO_NOISE:  # variance of effects over variance of noise
        shrunk = 1 + ratio * s**2
        noise = (float(np.sum(z**2 / shrunk)) + outside) / len(y)
        noise = max(noise, 1e-12)
        likelihood = -0.5 * (len(y) * np.log(noise) + float(np.sum(np.log(shrunk))))
        best = max(best, (likelihood, float(ratio), noise))
    _, ratio, noise = best
    gain = ratio * s / (1 + ratio * s**2)
    means = vt.T @ (gain * z)
    # prior variance, less what each singular direction has taught
    learnt = (vt**2).T @ (ratio * s**2 / (1 + ratio * s**2))
    variances = noise * ratio * (1 - learnt)
    return means, np.sqrt(np.maximum(variances, 0.0))
