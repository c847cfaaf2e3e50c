"""A comparison of two configurations without a search: ``autotune verify`` and ``compare``."""

import dataclasses
import math
from collections.abc import Sequence

from autotuner.knobs.knob import Configuration
from autotuner.stages.known import Known
from autotuner.statistics.sequential import Finding, Pair, StoppingRule, find, starts_first
from autotuner.study.record import Role, Task, TrialRecord

_MOST_ATTEMPTS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Versus:
    """Runs pairs of new processes until the comparison is decided.

    ``against``: the other side; empty for TensorFlow's defaults. ``threshold``: the comparison is
    decided when the interval of the ratio lies above or below it; None: the rule alone decides.
    """

    configuration: Configuration
    against: Configuration
    rule: StoppingRule
    threshold: float | None = None
    roles: frozenset[Role] = frozenset({Role.FINAL})

    def next_task(self, known: Known) -> Task | None:
        """Return the next pair; None once the comparison is decided or a process has failed."""
        attempts = len(candidates(known.records))
        if self.failure(known) or self.is_over(known) or attempts >= self.most_attempts():
            return None
        if self.finding(known) is not None and not known.budget.has_time_for_pairs():
            return None
        return Task(
            role=Role.FINAL,
            configuration=self.configuration,
            against=self.against,
            starts_first=starts_first([pair.first for pair in self.pairs(known)]),
        )

    def wants(self, task: Task, known: Known, mine: TrialRecord) -> bool:
        """Return True: there are no other workers."""
        return True

    def awaits_others(self, known: Known) -> bool:
        """Return False: there are no other workers."""
        return False

    def pairs(self, known: Known) -> list[Pair]:
        """Return the pairs that count: those that no other process disturbed."""
        noise = known.noise
        return [
            Pair(math.log(side.gain), first=bool(side.starts_first))
            for side in candidates(known.records)
            if side.gain is not None
            and not (noise is not None and noise.is_disturbed(side.others_cores))
        ]

    def finding(self, known: Known) -> Finding | None:
        """Return the result of the pairs so far; None without any."""
        return find(self.pairs(known), self.rule)

    def failure(self, known: Known) -> str:
        """Return why a process failed; empty if none has."""
        failed = [side.reason for side in candidates(known.records) if side.gain is None]
        return f"a process failed: {failed[0]}" if failed else ""

    def problem(self, known: Known) -> str:
        """Return why the verdict rests on too few pairs; empty if it does not."""
        attempts = len(candidates(known.records))
        if not self.is_over(known) and attempts >= self.most_attempts():
            return self.failure(known) or "other processes used the CPU all the time"
        return self.failure(known)

    def is_over(self, known: Known) -> bool:
        """Return whether the comparison is decided, or all pairs have been run."""
        finding = self.finding(known)
        if finding is None:
            return False
        return finding.pairs >= self.rule.most_pairs or self._is_decided(finding)

    def _is_decided(self, finding: Finding) -> bool:
        if self.threshold is None or finding.low is None or finding.high is None:
            return finding.decided
        return not finding.low <= self.threshold <= finding.high

    def most_attempts(self) -> int:
        """Return the greatest number of pairs to run, disturbed ones included."""
        return _MOST_ATTEMPTS * self.rule.most_pairs


def candidates(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the candidate's trial of each pair that has ended: the one started first or second."""
    pairs: dict[int, list[TrialRecord]] = {}
    for record in records:
        if record.pair is not None and not record.is_running:
            pairs.setdefault(record.pair, []).append(record)
    return [sides[0 if sides[0].starts_first else -1] for sides in pairs.values()]
