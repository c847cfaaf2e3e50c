"""The race: rounds of fresh processes for a few candidates; clearly slower ones are dropped."""

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from autotuner.knobs.knob import Configuration
from autotuner.stages.known import Known
from autotuner.study.proposals import estimates
from autotuner.study.record import Role, Task, TrialRecord, configuration_key
from autotuner.verdict.decision import Candidate, candidates, since_search, up_to_search

_CLEARLY = 2.0
_LEAST_SPREAD = 0.005


def shortlist(
    records: Sequence[TrialRecord],
    *,
    default: Configuration,
    recipe: Configuration,
    size: int,
    estimated: Mapping[str, float],
) -> list[Candidate]:
    """Return the entrants: the best few by their estimates, and the recipe.

    The recipe enters if it is not far behind: it is what a user would deploy without autotune.

    Args:
        records: all trials.
        default: TensorFlow's own configuration, which does not take part.
        recipe: the vendor's.
        size: the number of entrants beside the recipe.
        estimated: log gains by configuration key; the others are ranked by their own trials.
    """
    found = [c for c in candidates(records, default) if c.configuration != default]
    found.sort(key=lambda c: -estimated.get(configuration_key(c.configuration), math.log(c.gain)))
    chosen = found[:size]
    by_recipe = [c for c in found[size:] if c.configuration == recipe]
    if by_recipe and chosen and by_recipe[0].gain >= 0.97 * chosen[-1].gain:
        chosen.append(by_recipe[0])
    return chosen


def survivors(logs: Mapping[str, Sequence[float]], between: float) -> set[str]:
    """Return the keys of the candidates that are not clearly behind the leader.

    Args:
        logs: log gains of each candidate's processes so far.
        between: standard deviation from process to process that the noise check found; the
            race's own is used where it is larger.
    """
    pooled = [variance(values) for values in logs.values() if len(values) > 1]
    spread = max(between, math.sqrt(fmean(pooled)) if pooled else 0.0, _LEAST_SPREAD)
    leader = max(logs, key=lambda key: fmean(logs[key]))
    kept = set()
    for key, values in logs.items():
        error = spread * math.sqrt(1 / len(values) + 1 / len(logs[leader]))
        if fmean(values) >= fmean(logs[leader]) - _CLEARLY * error:
            kept.add(key)
    return kept


def race_gains(
    records: Sequence[TrialRecord], default: Configuration, last: int | None = None
) -> dict[str, list[float]]:
    """Return the log gains in the race so far, by configuration key.

    Args:
        records: all trials.
        default: TensorFlow's own configuration.
        last: the last round that counts, so that all workers agree; None: all rounds count.
    """
    gains: dict[str, list[float]] = {}
    for record in since_search(records):
        if record.role is not Role.RACE or record.gain is None:
            continue
        if last is None or record.race_round is None or record.race_round <= last:
            gains.setdefault(record.key(default), []).append(math.log(record.gain))
    return gains


@dataclasses.dataclass(frozen=True)
class Race:
    """Measures a shortlist in rounds, each in a new random order.

    The rounds depend only on the records, so all workers run the same race, and a resumed race
    continues where it stopped.
    """

    roles: frozenset[Role] = frozenset({Role.RACE})

    def next_task(self, known: Known) -> Task | None:
        """Return the next trial of the first round that is not complete."""
        space, plan = known.facts.space, known.spec.plan
        searched = up_to_search(known.records)
        chosen = shortlist(
            known.records,
            default=space.default,
            recipe=space.recipe,
            size=plan.shortlist,
            estimated=estimates(searched, space, known.between) if plan.race_rounds else {},
        )
        if len(chosen) < 2 or plan.most_pairs == 0:
            return None
        running = {configuration_key(c.configuration): c.configuration for c in chosen}
        generator = random.Random(f"{known.facts.seed} race")
        for number in range(plan.race_rounds):
            keys = sorted(running)
            generator.shuffle(keys)
            taken = _taken(known.records, space.default, number)
            missing = [key for key in keys if key not in taken]
            if missing:
                if not known.budget.has_time_for_pairs():
                    return None
                key = known.pick(missing)
                return Task(role=Role.RACE, configuration=running[key], race_round=number)
            if _is_running(known.records, number):
                return None  # the entrants of the next round depend on it
            running = _next_entrants(known, running, number)
            if len(running) < 2:
                return None
        return None

    def wants(self, task: Task, known: Known, mine: TrialRecord) -> bool:
        """Return whether no other worker has run the configuration in this round."""
        default = known.facts.space.default
        return not any(
            r.role is Role.RACE
            and r.race_round == task.race_round
            and r.key(default) == mine.key(default)
            for r in since_search(known.records)
        )

    def awaits_others(self, known: Known) -> bool:
        """Return False: a worker that runs nothing has no task of its own left."""
        return False


def _next_entrants(
    known: Known, running: Mapping[str, Configuration], number: int
) -> dict[str, Configuration]:
    """Return the configurations that enter the round after this one."""
    default = known.facts.space.default
    logs = race_gains(known.records, default, number)
    failed = _failed_keys(known.records, default)
    left = {key: value for key, value in running.items() if key not in failed}
    logs = {key: logs[key] for key in left if key in logs}
    if logs and number > 0:
        kept = survivors(logs, known.between)
        left = {key: value for key, value in left.items() if key in kept}
    return left


def _is_running(records: Sequence[TrialRecord], number: int) -> bool:
    return any(r.role is Role.RACE and r.race_round == number and r.is_running for r in records)


def _taken(records: Sequence[TrialRecord], default: Configuration, number: int) -> set[str]:
    """Return the keys that have run or are running in a round, or failed before it."""
    raced = [r for r in since_search(records) if r.role is Role.RACE and r.counts]
    counts = Counter(record.key(default) for record in raced)
    failed = _failed_keys(records, default)
    return {key for key, count in counts.items() if count > number or key in failed}


def _failed_keys(records: Sequence[TrialRecord], default: Configuration) -> set[str]:
    """Return the keys that failed in the race, and so can't be recommended."""
    raced = (r for r in since_search(records) if r.role is Role.RACE and r.has_ended)
    return {record.key(default) for record in raced if record.gain is None}
