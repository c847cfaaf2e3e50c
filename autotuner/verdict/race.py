"""The race: a few candidates in rounds of fresh processes, the clearly slower ones dropped."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from autotuner.knobs.knob import Configuration
from autotuner.study.model_sampler import estimates
from autotuner.study.record import ENDED, Role, TrialRecord, configuration_key
from autotuner.study.tuner import Tuner
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
    """Return who takes part: the best few by their estimates, and the recipe.

    The recipe only if it is not far behind: it is what a user would deploy without us.

    Args:
        records: all trials.
        default: TensorFlow's own configuration, which does not take part.
        recipe: the vendor's.
        size: how many are the best few.
        estimated: log gains by configuration key; for others their own trials stand.
    """
    found = [c for c in candidates(records, default) if c.configuration != default]
    found.sort(key=lambda c: -estimated.get(configuration_key(c.configuration), math.log(c.gain)))
    chosen = found[:size]
    by_recipe = [c for c in found[size:] if c.configuration == recipe]
    if by_recipe and chosen and by_recipe[0].gain >= 0.97 * chosen[-1].gain:
        chosen.append(by_recipe[0])
    return chosen


def survivors(logs: Mapping[str, Sequence[float]], between: float) -> set[str]:
    """Return who is not clearly behind the leader.

    Args:
        logs: log gains of each candidate's processes so far.
        between: standard deviation from process to process that the noise check found; what the
            race itself shows is used where that is more.
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
    """Return the log gains of each configuration in the race so far, by configuration key.

    Args:
        records: all trials.
        default: TensorFlow's own configuration.
        last: the last round that counts, so that all workers come to the same; None: all of them.
    """
    gains: dict[str, list[float]] = {}
    for record in since_search(records):
        if record.role is not Role.RACE or record.gain is None:
            continue
        if last is None or record.race_round is None or record.race_round <= last:
            gains.setdefault(record.key(default), []).append(math.log(record.gain))
    return gains


def run_race(tuner: Tuner) -> None:
    """Run the rounds that are missing, each in a new random order.

    Of several workers each takes the next one of a round that none has taken.
    """
    space, plan = tuner.facts.space, tuner.spec.plan
    chosen = shortlist(
        tuner.records(),
        default=space.default,
        recipe=space.recipe,
        size=plan.shortlist,
        estimated=estimates(up_to_search(tuner.records()), space, tuner.between),
    )
    if len(chosen) < 2 or plan.most_pairs == 0:
        return
    running = {configuration_key(c.configuration): c.configuration for c in chosen}
    generator = random.Random(f"{tuner.facts.seed} race")
    for number in range(plan.race_rounds):
        keys = sorted(running)
        generator.shuffle(keys)
        if not _run_round(tuner, {key: running[key] for key in keys}, number):
            return
        logs = race_gains(tuner.records(), space.default, number)
        failed = _failed_keys(tuner.records(), space.default)
        running = {key: value for key, value in running.items() if key not in failed}
        logs = {key: logs[key] for key in running if key in logs}
        if logs and number > 0:
            kept = survivors(logs, tuner.between)
            running = {key: value for key, value in running.items() if key in kept}
        if len(running) < 2:
            return


def _run_round(tuner: Tuner, order: Mapping[str, Configuration], number: int) -> bool:
    """Run what is missing of a round; return False if there is no time for all of it."""
    while True:
        with tuner.turn():
            taken = _taken(tuner.records(), tuner.facts.space.default, number)
            missing = [key for key in order if key not in taken]
            if missing and not tuner.budget.has_time_for_pairs():
                return False
            if missing:
                key = tuner.workers.pick(missing)
                tuner.run_trial(Role.RACE, order[key], race_round=number)
                continue
        if not tuner.others_run(Role.RACE):
            return True
        tuner.wait()  # what another worker does not finish is to be done again


def _taken(records: Sequence[TrialRecord], default: Configuration, number: int) -> set[str]:
    """Return who has run in a round, or does; or has failed before it."""
    raced = [r for r in since_search(records) if r.role is Role.RACE and r.counts]
    counts = Counter(record.key(default) for record in raced)
    failed = _failed_keys(records, default)
    return {key for key, count in counts.items() if count > number or key in failed}


def _failed_keys(records: Sequence[TrialRecord], default: Configuration) -> set[str]:
    """Return who has failed in the race: not to be recommended."""
    raced = (r for r in since_search(records) if r.role is Role.RACE and r.state in ENDED)
    return {record.key(default) for record in raced if record.gain is None}
