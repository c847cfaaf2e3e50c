"""The search: which configurations are tried, until the number of trials or the time is used up.

Any number of workers run it on one study. What is tried next follows from the study alone, and a
trial that one of them has added is tried by no other.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from autotuner.knobs.knob import Configuration
from autotuner.knobs.selection import effective
from autotuner.options.study_spec import SamplerName
from autotuner.stages.known import Known
from autotuner.study.budget import SEARCH_ROLES
from autotuner.study.candidates import first_candidates
from autotuner.study.import_trials import best_imported
from autotuner.study.proposals import has_hope, propose
from autotuner.study.record import Role, Task, TrialRecord, configuration_key
from autotuner.study.samplers import walk_grid

_CONTROL_EVERY = 4


@dataclasses.dataclass(frozen=True)
class Search:
    """Tries what a dead worker left, what the diagnosis suggests, then the sampler's proposals.

    A space with no more points than trials is walked through instead: a sampler would repeat some
    and miss others.
    """

    roles: frozenset[Role] = frozenset(SEARCH_ROLES)

    def next_task(self, known: Known) -> Task | None:
        """Return the most urgent trial; None if none is left, or all are being measured."""
        if not known.budget.searches:
            return None
        if control_is_due(known):
            return Task(role=Role.CONTROL, configuration={})
        planned = _planned(known)
        if planned:
            return Task(role=Role.SEARCH, configuration=known.pick(planned))
        if enumerates(known) or not is_worth_going_on(known):
            return None
        if known.spec.sampler is not SamplerName.GP:
            return Task(role=Role.SEARCH, configuration=None)
        facts = known.facts
        proposals = propose(facts.space, known.records, between=known.between, seed=facts.seed)
        if not proposals:
            return None
        chosen = known.pick(proposals)
        return Task(role=Role.SEARCH, configuration=chosen.configuration, expected=chosen.expected)

    def wants(self, task: Task, known: Known, mine: TrialRecord) -> bool:
        """Return whether trials are left, and the configuration is measured by no other worker.

        One that ended after this trial was added counts as being measured: its result was not known
        to the worker that planned this one. A repeat of an older one is another matter.
        """
        if task.role is Role.CONTROL:
            return True
        if known.budget.trials_left <= 0:
            return False
        if task.configuration is None:
            return True
        default = known.facts.space.default
        unknown = (
            r.key(default)
            for r in known.records
            if r.role in SEARCH_ROLES
            and not r.undecided
            and (r.is_running or _ended_after(r, mine))
        )
        return mine.key(default) not in set(unknown)

    def awaits_others(self, known: Known) -> bool:
        """Return False: a worker that runs nothing leaves nothing undone."""
        return False


def enumerates(known: Known) -> bool:
    """Return whether every point of the space is tried once, in a random order."""
    limit = known.spec.trials or known.spec.plan.trials
    return known.spec.sampler is SamplerName.GRID or known.facts.space.size <= limit


def is_worth_going_on(known: Known) -> bool:
    """Return whether further trials can be expected to gain; always, if their number was given."""
    model_proposes = known.spec.sampler is SamplerName.GP
    return not model_proposes or known.spec.trials is not None or has_hope(known.records)


def control_is_due(known: Known) -> bool:
    """Return whether the defaults are to be run again: without duels, trials need a fresh control.

    Each machine has its own: how fast another one is says nothing about this one.
    """
    if known.duels:
        return False
    here = [r for r in known.records if r.has_ended and r.machine == known.worker.machine]
    at = [i for i, r in enumerate(here) if r.role in (Role.DEFAULT, Role.CONTROL)]
    return not at or len(here) - 1 - at[-1] >= _CONTROL_EVERY


def _planned(known: Known) -> list[Configuration]:
    """Return what to try before the sampler is asked; of a grid one point."""
    facts, records = known.facts, known.records
    space = facts.space
    planned = lost_configurations(records, space.default)
    if not enumerates(known):
        suggested = best_imported(records, space.default)
        if known.diagnosis is not None:
            suggested += first_candidates(known.diagnosis.bottleneck, space)
        return [*planned, *_untried(known, suggested)]
    if not planned:
        points = (effective(p, space.default) for p in walk_grid(space, seed=facts.seed))
        planned = list(itertools.islice(_untried(known, points), 1))
    return planned


def _untried(known: Known, configurations: Iterable[Configuration]) -> Iterable[Configuration]:
    """Yield those that were not tried, and are not being tried."""
    default = known.facts.space.default
    tried = {
        record.key(default)
        for record in known.records
        if record.counts and record.role is not Role.IMPORTED
    }
    return (one for one in configurations if configuration_key(one) not in tried)


def lost_configurations(
    records: Sequence[TrialRecord], default: Configuration
) -> list[Configuration]:
    """Return the configurations to try again, once each: their worker has died.

    One that was lost twice is not tried a third time: it may be what kills the workers.
    """
    losses: dict[str, list[TrialRecord]] = {}
    counted: set[str] = set()
    for record in records:
        if record.role is not Role.SEARCH:
            continue
        key = record.key(default)
        if record.lost:
            losses.setdefault(key, []).append(record)
        elif record.counts and key in losses:
            counted.add(key)
    return [
        dict(lost[0].configuration)
        for key, lost in losses.items()
        if len(lost) == 1 and key not in counted
    ]


def _ended_after(record: TrialRecord, mine: TrialRecord) -> bool:
    return record.ended is not None and mine.started is not None and record.ended > mine.started
