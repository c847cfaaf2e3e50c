"""The final: the finalist against the defaults, in pairs of new processes, until it is decided."""

import dataclasses
from collections.abc import Sequence

import optuna

from autotuner.codec import from_json
from autotuner.statistics.machines import WANTED, covered, on_machines
from autotuner.statistics.sequential import FIRST_LOOK, Pair, starts_first
from autotuner.study.record import (
    ENDED,
    Role,
    StudyFacts,
    TrialRecord,
    noise_from,
    read_records,
)
from autotuner.study.settings import spec_from
from autotuner.study.tuner import Tuner
from autotuner.verdict import result
from autotuner.verdict.decision import Decision, counted_pairs
from autotuner.verdict.numerics import Numerics, check_numerics
from autotuner.verdict.result import NUMERICS

_MOST_ATTEMPTS = 2


def decision_of(
    study: optuna.Study, facts: StudyFacts, records: Sequence[TrialRecord] | None = None
) -> Decision | None:
    """Return the decision on what a study holds so far."""
    if records is None:
        records = read_records(study.get_trials(deepcopy=False))
    attributes = study.user_attrs  # once: Optuna copies all of them each time
    spec, stored = spec_from(attributes), attributes.get(NUMERICS)
    assert spec is not None
    return result.decision_of(
        records,
        facts=facts,
        spec=spec,
        noise=noise_from(attributes),
        numerics=None if stored is None else from_json(Numerics, stored),
    )


def run_final(tuner: Tuner, study: optuna.Study) -> Decision | None:
    """Run pairs until they are decided or the reserve is spent, then the numerical guard.

    Of several workers each runs pairs on its own machine, at least one of each order while there
    are less than three machines that have; the leader stays until all of them are over, and runs
    the guard.
    """

    def current() -> Decision | None:
        return decision_of(study, tuner.facts, tuner.records())

    decision, attempts = current(), 0
    while decision is not None:
        with tuner.turn():
            decision = current()
            if decision is not None and _wants_pair(decision, tuner, attempts, tuner.records()):
                attempts += _run_next_pair(tuner, decision, attempts)
                continue
        if decision is None or not (tuner.others_run(Role.FINAL) or _is_awaited(decision, tuner)):
            break
        tuner.wait()
    wants_guard = decision is not None and decision.is_faster and decision.numerics is None
    if decision is not None and wants_guard and tuner.workers.is_leader():
        with tuner.turn():
            numerics = check_numerics(tuner, decision.best.configuration)
        study.set_user_attr(NUMERICS, dataclasses.asdict(numerics))
        decision = current()
    return decision


def _run_next_pair(tuner: Tuner, decision: Decision, attempts: int) -> bool:
    """Run a pair; return False if others were quicker, so that it is not wanted any more."""
    ours_first = _starts_first(tuner, decision, tuner.records())

    def is_wanted(earlier: Sequence[TrialRecord]) -> bool:
        in_turn = _starts_first(tuner, decision, earlier) == ours_first
        return in_turn and _wants_pair(decision, tuner, attempts, earlier)

    best = decision.best.configuration
    record = tuner.run_pair(best, starts_first=ours_first, is_wanted=is_wanted)
    return record is not None


def _starts_first(tuner: Tuner, decision: Decision, records: Sequence[TrialRecord]) -> bool:
    """Return whether the finalist starts first in the next pair here.

    Each machine is to have as many pairs of each order, and where it has, all of them together.
    """
    orders = [pair.first for pair in _own_pairs(tuner, decision, records)]
    if len(orders) % 2 == 0:
        orders = [pair.first for pair in _pairs(tuner, decision, records)]
        orders += _running_orders(records)
    return starts_first(orders)


def _own_pairs(tuner: Tuner, decision: Decision, records: Sequence[TrialRecord]) -> list[Pair]:
    """Return the pairs that this machine has run."""
    pairs = _pairs(tuner, decision, records)
    return [pair for pair in pairs if pair.machine == tuner.workers.machine]


def _pairs(tuner: Tuner, decision: Decision, records: Sequence[TrialRecord]) -> list[Pair]:
    return counted_pairs(records, decision, tuner.facts.space.default, tuner.noise_if_known)


def _is_awaited(decision: Decision, tuner: Tuner) -> bool:
    """Tell whether another machine is still to run its pairs, for the leader to wait for.

    It has taken part and is there, so it will; or it dies, or has had its attempts and leaves.
    """
    if not tuner.workers.is_shared or _is_out(decision) or not tuner.budget.has_time_for_pairs():
        return False
    records = tuner.records()
    done = covered(on_machines(_pairs(tuner, decision, records)))
    took_part = {record.machine for record in records if record.state in ENDED}
    others = (tuner.workers.machines() & took_part) - {tuner.workers.machine}
    return len(done) < WANTED and bool(others - done) and tuner.workers.is_leader()


def _is_out(decision: Decision) -> bool:
    """Tell whether there is nothing to hold against the defaults."""
    return decision.is_default or decision.final_failures > 0


def _wants_pair(
    decision: Decision, tuner: Tuner, attempts: int, records: Sequence[TrialRecord]
) -> bool:
    """Tell whether one more pair is wanted here; the first few even beyond the budget.

    Args:
        decision: so far.
        tuner: would run it.
        attempts: how many it has run.
        records: the trials that count.
    """
    most = tuner.spec.plan.most_pairs
    most += most % 2  # they count in twos, one of each order
    if _is_out(decision) or attempts >= _MOST_ATTEMPTS * most:
        return False
    pairs = _pairs(tuner, decision, records)
    begun = len(pairs) + len(_running_orders(records))
    if begun < min(most, FIRST_LOOK) and attempts < FIRST_LOOK:
        return True
    done = covered(on_machines(pairs))
    here = tuner.workers.machine
    if tuner.workers.is_shared and here not in done and len(done) < WANTED and begun < most:
        return True
    decided = decision.finding is not None and decision.finding.decided
    # a pair that stays alone would tell nothing
    to_count = 1 if len(_own_pairs(tuner, decision, records)) % 2 else 2
    return not decided and begun < most and tuner.budget.has_time_for_pairs(to_count)


def _running_orders(records: Sequence[TrialRecord]) -> list[bool]:
    """Return of each pair that is being run whether the finalist has started first."""
    running = [r for r in records if r.is_running and r.role is Role.FINAL]
    sides = {record.pair: record for record in reversed(running)}  # the first one stays
    return [bool(record.configuration) for record in sides.values()]
