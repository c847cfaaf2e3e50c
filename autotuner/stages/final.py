"""The final: the finalist against the defaults, in pairs of new processes, until decided."""

import dataclasses
from collections.abc import Sequence

from autotuner.stages.known import Known
from autotuner.statistics.machines import WANTED, covered, on_machines
from autotuner.statistics.sequential import FIRST_LOOK, Pair, starts_first
from autotuner.study.record import Role, Task, TrialRecord
from autotuner.study.trials import WITHDRAWN
from autotuner.verdict.decision import Decision, counted_pairs, since_search
from autotuner.verdict.result import decision_of

_MOST_ATTEMPTS = 2


def decide_on(known: Known) -> Decision | None:
    """Return the decision on the trials so far; None if the defaults were not measured."""
    return decision_of(
        known.records,
        facts=known.facts,
        spec=known.spec,
        noise=known.noise,
        numerics=known.numerics,
    )


@dataclasses.dataclass(frozen=True)
class Final:
    """Runs pairs until the result is decided or the reserve is spent.

    Each of several workers runs pairs on its own machine: at least one in each order, until three
    machines have done so.
    """

    roles: frozenset[Role] = frozenset({Role.FINAL})

    def next_task(self, known: Known) -> Task | None:
        """Return the next pair for this machine; None if it has none to run now."""
        decision = decide_on(known)
        if decision is None or not _wants_pair(known, decision):
            return None
        return Task(
            role=Role.FINAL,
            configuration=decision.best.configuration,
            starts_first=_starts_first(known, decision),
        )

    def wants(self, task: Task, known: Known, mine: TrialRecord) -> bool:
        """Return whether this pair is still wanted, in this order, after the pairs before it."""
        wanted = self.next_task(known)
        return wanted is not None and wanted.starts_first == task.starts_first

    def awaits_others(self, known: Known) -> bool:
        """Return whether another machine still has to run its pairs.

        Such a machine has run trials and has a living worker. The wait ends when its pairs have
        run, or when its worker has died or left after its last attempt.
        """
        decision = decide_on(known)
        if decision is None or not known.worker.shared or _is_out(decision):
            return False
        if not known.budget.has_time_for_pairs():
            return False
        done = covered(on_machines(_pairs(known, decision)))
        took_part = {record.machine for record in known.records if record.has_ended}
        others = (known.worker.machines & took_part) - {known.worker.machine}
        return len(done) < WANTED and bool(others - done)


def _wants_pair(known: Known, decision: Decision) -> bool:
    """Return whether one more pair is wanted here; the first few even beyond the budget."""
    most = known.spec.plan.most_pairs
    most += most % 2  # pairs count in twos, one in each order
    attempts = attempts_of(known.records, known.worker.key)
    if _is_out(decision) or attempts >= _MOST_ATTEMPTS * most:
        return False
    pairs = _pairs(known, decision)
    begun = len(pairs) + len(_running_orders(known.records))
    if begun < min(most, FIRST_LOOK) and attempts < FIRST_LOOK:
        return True
    done = covered(on_machines(pairs))
    here = known.worker.machine
    if known.worker.shared and here not in done and len(done) < WANTED and begun < most:
        return True
    decided = decision.finding is not None and decision.finding.decided
    # a pair whose other order is missing does not count
    to_count = 1 if len(_own_pairs(known, decision)) % 2 else 2
    return not decided and begun < most and known.budget.has_time_for_pairs(to_count)


def attempts_of(records: Sequence[TrialRecord], worker: str) -> int:
    """Return how many pairs a worker has run since the search, failed ones included."""
    run = (
        record
        for record in since_search(records)
        if record.role is Role.FINAL and not record.is_running and worker in record.owner
    )
    return len({record.pair for record in run if not record.reason.startswith(WITHDRAWN)})


def _is_out(decision: Decision) -> bool:
    """Return whether there is nothing to compare with the defaults."""
    return decision.is_default or decision.final_failures > 0


def _starts_first(known: Known, decision: Decision) -> bool:
    """Return whether the finalist starts first in the next pair here.

    Both orders are balanced on each machine; where they are, they are balanced over all machines.
    """
    orders = [pair.first for pair in _own_pairs(known, decision)]
    if len(orders) % 2 == 0:
        orders = [pair.first for pair in _pairs(known, decision)]
        orders += _running_orders(known.records)
    return starts_first(orders)


def _own_pairs(known: Known, decision: Decision) -> list[Pair]:
    """Return the pairs that this machine has run."""
    return [p for p in _pairs(known, decision) if p.machine == known.worker.machine]


def _pairs(known: Known, decision: Decision) -> list[Pair]:
    return counted_pairs(known.records, decision, known.facts.space.default, known.noise)


def _running_orders(records: Sequence[TrialRecord]) -> list[bool]:
    """Return, for each running pair, whether the finalist started first."""
    running = [r for r in records if r.is_running and r.role is Role.FINAL]
    sides = {record.pair: record for record in reversed(running)}  # keeps the side started first
    return [bool(record.configuration) for record in sides.values()]
