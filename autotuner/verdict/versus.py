"""Two configurations against each other, without a search: ``autotune verify`` and ``compare``."""

import math
from collections.abc import Callable

from autotuner.knobs.knob import Configuration
from autotuner.study.tuner import Tuner
from autotuner.verdict.sequential import FIRST_LOOK, Finding, Rule, find

_MOST_ATTEMPTS = 2


def run_versus(
    tuner: Tuner,
    configuration: Configuration,
    against: Configuration,
    rule: Rule,
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
    logs: list[float] = []
    for pair in range(_MOST_ATTEMPTS * rule.most_pairs):
        record = tuner.run_pair(configuration, pair=pair, against=against)
        if record.gain is None:
            return None, f"a process failed: {record.reason}"
        if not tuner.noise.is_disturbed(record.others_cores):
            logs.append(math.log(record.gain))
        finding = find(logs, rule)
        if finding is None:
            continue
        heard(finding)
        if len(logs) >= rule.most_pairs or (
            len(logs) >= FIRST_LOOK and _is_decided(finding, threshold)
        ):
            return finding, ""
        if not tuner.has_time_for_pair():
            return finding, ""
    return find(logs, rule), "other processes used the CPU all the time"


def _is_decided(finding: Finding, threshold: float | None) -> bool:
    if threshold is None:
        return finding.decided
    assert finding.low is not None
    assert finding.high is not None
    return not finding.low <= threshold <= finding.high
