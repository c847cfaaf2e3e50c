"""Two configurations against each other, without a search: ``autotune verify`` and ``compare``."""

import math
from collections.abc import Callable

from autotuner.knobs.knob import Configuration
from autotuner.statistics.sequential import Finding, Pair, StoppingRule, find, starts_first
from autotuner.study.tuner import Tuner

_MOST_ATTEMPTS = 2


def run_versus(
    tuner: Tuner,
    configuration: Configuration,
    against: Configuration,
    rule: StoppingRule,
    *,
    threshold: float | None,
    heard: Callable[[Finding], None],
) -> tuple[Finding | None, str]:
    """Run pairs of new processes until it is decided.

    Args:
        tuner: its defaults and its noise check have been run.
        configuration: one side.
        against: the other side; empty for TensorFlow's defaults.
        rule: how far to go.
        threshold: decided is also whether the ratio is above this, if it is given.
        heard: hears what the pairs so far show.

    Returns:
        what was found, and in a sentence why not, if a side failed.
    """
    pairs: list[Pair] = []
    for _ in range(_MOST_ATTEMPTS * rule.most_pairs):
        starts = starts_first([pair.first for pair in pairs])
        record = tuner.run_pair(configuration, starts_first=starts, against=against)
        assert record is not None  # nobody else is there
        if record.gain is None:
            return None, f"a process failed: {record.reason}"
        if not tuner.noise.is_disturbed(record.others_cores):
            pairs.append(Pair(math.log(record.gain), first=starts))
        finding = find(pairs, rule)
        if finding is None:
            continue
        heard(finding)
        if finding.pairs >= rule.most_pairs or _is_decided(finding, threshold):
            return finding, ""
        if not tuner.budget.has_time_for_pairs():
            return finding, ""
    return find(pairs, rule), "other processes used the CPU all the time"


def _is_decided(finding: Finding, threshold: float | None) -> bool:
    if threshold is None or finding.low is None or finding.high is None:
        return finding.decided
    return not finding.low <= threshold <= finding.high
