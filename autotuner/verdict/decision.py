"""Which configuration to recommend: pure functions over records.

The luckiest trial is not the best configuration, and its value overstates it. So trials of one
configuration are pooled, and the speed-up comes only from the final pairs, which are new processes.
"""

import dataclasses
from collections.abc import Sequence
from statistics import median

from optuna.trial import TrialState

from autotuner.knobs.knob import Configuration
from autotuner.statistics import Ratio, ratio_of_pairs
from autotuner.study.record import Role, TrialRecord, configuration_key

PAIRS = 3
"""Final pairs that a winner must win, all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration with the median throughput of its trials in the search."""

    configuration: Configuration
    throughput: float
    trials: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What to deploy.

    ``best``: the winner of the search, which may be the default. ``speed_up``: over the default,
    from final pairs; None until they have been run. ``default`` and ``recipe`` and ``own`` (what
    the script sets itself): search estimates, None where not measured.
    """

    best: Candidate
    default: Candidate
    recipe: Candidate | None
    own: Candidate | None
    speed_up: Ratio | None
    final_failures: int = 0
    configurations: int = 0

    @property
    def is_default(self) -> bool:
        """Whether nothing better than the defaults was found."""
        return self.best == self.default

    @property
    def deploys_best(self) -> bool:
        """Whether the exported files hold the winner: it must have won all final pairs."""
        if self.is_default or self.speed_up is None or self.final_failures:
            return False
        return self.speed_up.pairs >= PAIRS and self.speed_up.low > 1

    @property
    def deployed(self) -> Candidate:
        """The configuration that the exported files hold."""
        return self.best if self.deploys_best else self.default

    def sentence(self) -> str:
        """Return the result in one sentence."""
        if self.is_default and self.configurations <= 1:
            return "only TensorFlow's defaults were measured, so there is nothing to compare."
        if self.is_default:
            return "nothing faster than TensorFlow's defaults was found. Keep the defaults."
        if self.final_failures:
            return "the best of the search failed in a new process. Keep the defaults."
        if self.speed_up is None or self.speed_up.pairs < PAIRS:
            return (
                f"the best of the search has not yet met the defaults in {PAIRS} new pairs. "
                "Keep the defaults, or go on with the study."
            )
        ratio = self.speed_up
        numbers = (
            f"{ratio.median:.2f}x the default's throughput (median of {ratio.pairs} new "
            f"interleaved pairs, from {ratio.low:.2f}x to {ratio.high:.2f}x)"
        )
        if self.deploys_best:
            return f"the best configuration runs at {numbers}."
        return f"no clear gain: {numbers}. Keep the defaults."


def _pooled(
    configuration: Configuration, records: Sequence[TrialRecord], default: Configuration
) -> Candidate | None:
    key = configuration_key(configuration)
    values = [
        record.value
        for record in records
        if record.value is not None and record.role is not Role.FINAL and record.key(default) == key
    ]
    if not values:
        return None
    return Candidate(configuration=configuration, throughput=median(values), trials=len(values))


def decide(
    records: Sequence[TrialRecord],
    *,
    default: Configuration,
    recipe: Configuration,
    own: Configuration | None,
) -> Decision | None:
    """Return the decision on all records so far; None if the default was not measured."""
    base = _pooled(default, records, default)
    if base is None:
        return None
    configurations = {
        configuration_key(full): full for full in ({**default, **r.configuration} for r in records)
    }
    candidates = [_pooled(full, records, default) for full in configurations.values()]
    best = max((c for c in candidates if c is not None), key=lambda c: c.throughput)
    return Decision(
        best=best,
        default=base,
        recipe=_pooled(recipe, records, default),
        own=None if own is None else _pooled(own, records, default),
        speed_up=ratio_of_pairs(final_pairs(records, best.configuration, default)),
        configurations=len(configurations),
        final_failures=final_failures(records, best.configuration, default),
    )


def final_failures(
    records: Sequence[TrialRecord], configuration: Configuration, default: Configuration
) -> int:
    """Return in how many final trials a configuration failed."""
    key = configuration_key(configuration)
    return sum(
        record.role is Role.FINAL
        and record.value is None
        and record.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and record.key(default) == key
        for record in records
    )


def final_pairs(
    records: Sequence[TrialRecord], configuration: Configuration, default: Configuration
) -> list[tuple[float, float]]:
    """Return (candidate, default) throughputs of the complete final pairs of a configuration."""
    key = configuration_key(configuration)
    candidates: dict[int, float] = {}
    defaults: dict[int, float] = {}
    for record in records:
        if record.role is Role.FINAL and record.value is not None and record.pair is not None:
            if not record.configuration:
                defaults[record.pair] = record.value
            elif record.key(default) == key:
                candidates[record.pair] = record.value
    return [(candidates[pair], defaults[pair]) for pair in candidates if pair in defaults]
