"""The search: chooses what to try, until the number of trials or the time is used up.

Any number of workers run it on one study. The next trial depends only on the study, and no worker
repeats a trial that another has added.
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

    A space with no more points than trials is enumerated instead: a sampler would repeat some
    points and miss others.
    """

    roles: frozenset[Role] = frozenset(SEARCH_ROLES)

    def next_task(self, known: Known) -> Task | None:
        """Return the most urgent trial; None if none is left, or all are running."""
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
        """Return whether trials are left, and no other worker measures the configuration.

        A trial that ended after this one was added counts as running: the worker that planned this
        one did not know its result. A repeat of an older trial is planned on purpose.
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
        """Return False: a worker that runs nothing has no task of its own left."""
        return False


def enumerates(known: Known) -> bool:
    """Return whether the search tries every point of the space once, in a random order."""
    limit = known.spec.trials or known.spec.plan.trials
    return known.spec.sampler is SamplerName.GRID or known.facts.space.size <= limit


def is_worth_going_on(known: Known) -> bool:
    """Return whether further trials are likely to gain; True if their number was given."""
    model_proposes = known.spec.sampler is SamplerName.GP
    return not model_proposes or known.spec.trials is not None or has_hope(known.records)


def control_is_due(known: Known) -> bool:
    """Return whether the defaults should run again: without duels, trials need a fresh control.

    Each machine has its own control, as the speed of another machine does not carry over.
    """
    if known.duels:
        return False
    here = [r for r in known.records if r.has_ended and r.machine == known.worker.machine]
    at = [i for i, r in enumerate(here) if r.role in (Role.DEFAULT, Role.CONTROL)]
    return not at or len(here) - 1 - at[-1] >= _CONTROL_EVERY


def _planned(known: Known) -> list[Configuration]:
    """Return what to try before the sampler proposes; one point if the space is enumerated."""
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
    """Yield the configurations that neither have been tried nor are running."""
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
    """Return the configurations to try once more, because their worker died.

    A configuration that was lost twice is not tried again: it may be what kills the workers.
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
