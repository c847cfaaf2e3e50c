"""The numerical guard: checks that the first steps compute the same as with the defaults."""

import dataclasses
import math
from collections.abc import Sequence

from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Configuration
from autotuner.study.memory import Key

TOLERANCE = 1e-3
"""Relative: within a few steps, another order of rounding stays well below it, unlike bfloat16."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numerics:
    """The guard's result.

    ``differs``: None if that is not known; ``text`` then holds the reason. ``largest``: the largest
    relative difference of a value (a loss, a norm of outputs); ``own``: the same between two runs
    of the defaults, which the script's own randomness explains. ``about``: the key of the
    configuration.
    """

    differs: bool | None
    text: str
    largest: float | None = None
    own: float | None = None
    about: str = ""


NUMERICS = Key("numerics", Numerics)
"""Where a study keeps the guard's result."""


def knobs_that_round(configuration: Configuration, default: Configuration) -> list[str]:
    """Return the changed knobs that can change results."""
    return [
        name
        for name, value in configuration.items()
        if default.get(name) != value
        and (KNOBS[name].changes_numerics or KNOBS[name].changes_order)
    ]


def largest_difference(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> float | None:
    """Return the largest relative difference of corresponding values; None if there are none.

    Values that are not finite in the same way, or that one side lacks, differ infinitely.
    """
    largest = None
    for ours, theirs in zip(one, other, strict=False):
        if len(ours) != len(theirs):
            return math.inf
        for a, b in zip(ours, theirs, strict=True):
            if math.isnan(a) and math.isnan(b):
                difference = 0.0
            elif not (math.isfinite(a) and math.isfinite(b)):
                difference = 0.0 if a == b else math.inf
            else:
                scale = max(abs(a), abs(b))
                difference = abs(a - b) / scale if scale > 1e-12 else 0.0
            largest = max(largest or 0.0, difference)
    return largest


def judge_numerics(
    default: Sequence[Sequence[float]],
    again: Sequence[Sequence[float]],
    best: Sequence[Sequence[float]],
    *,
    changing: Sequence[str],
) -> Numerics:
    """Return the guard's result from the values of three runs."""
    own, largest = largest_difference(default, again), largest_difference(default, best)
    assert own is not None
    assert largest is not None
    steps, knobs = min(len(default), len(best)), ", ".join(changing)
    if own > TOLERANCE:
        text = (
            f"results could not be compared: even with fixed seeds the script's own differ by "
            f"{own:.1e} from run to run"
        )
        return Numerics(differs=None, text=text, largest=largest, own=own)
    if largest > TOLERANCE:
        text = (
            f"results change: by up to {largest:.1e} (relative) within the first {steps} steps "
            f"with fixed seeds, more than the {TOLERANCE:g} that rounding explains; {knobs} can "
            f"do that"
        )
        return Numerics(differs=True, text=text, largest=largest, own=own)
    text = (
        f"results stay the same: the first {steps} steps differ by at most {largest:.1e} "
        f"(relative) with fixed seeds; up to {TOLERANCE:g} is rounding"
    )
    return Numerics(differs=False, text=text, largest=largest, own=own)
