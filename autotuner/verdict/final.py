"""The final: the winner of the search against the defaults, in new processes, interleaved."""

from autotuner.study.record import Role
from autotuner.study.tuner import Tuner, own_configuration
from autotuner.verdict.decision import PAIRS, Decision, decide, final_pairs


def current_decision(tuner: Tuner) -> Decision | None:
    """Return the decision on what has been measured so far."""
    space, own = tuner.facts.space, own_configuration(tuner.facts)
    return decide(tuner.records(), default=space.default, recipe=space.recipe, own=own)


def run_final(tuner: Tuner) -> Decision | None:
    """Run the pairs that are missing and return the decision; which one goes first alternates."""
    decision = current_decision(tuner)
    if decision is None or decision.is_default or decision.final_failures:
        return decision
    best = decision.best.configuration
    complete = len(final_pairs(tuner.records(), best, tuner.facts.space.default))
    used = [record.pair for record in tuner.records() if record.pair is not None]
    first = max(used, default=-1) + 1
    for number in range(first, first + PAIRS - complete):
        sides = [best, {}] if number % 2 else [{}, best]
        for configuration in sides:
            tuner.run_trial(Role.FINAL, configuration, pair=number)
    return current_decision(tuner)
