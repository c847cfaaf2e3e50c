"""The search: which configurations are tried, until the number of trials or the time is used up.

Any number of workers run it on one study. What is to be tried next follows from the study alone,
and a trial that one of them has added is tried by no other.
"""

import itertools
from collections.abc import Iterator, Sequence

from optuna.samplers import BaseSampler

from autotuner.knobs.knob import Configuration
from autotuner.knobs.selection import effective
from autotuner.options.study_spec import SamplerName
from autotuner.study.budget import SEARCH_ROLES
from autotuner.study.candidates import first_candidates
from autotuner.study.conflicts import lost_tasks
from autotuner.study.import_trials import best_imported
from autotuner.study.model_sampler import ModelSampler
from autotuner.study.noise import Method
from autotuner.study.record import ENDED, Role, TrialRecord, configuration_key, read_diagnosis
from autotuner.study.samplers import make_sampler, walk_grid
from autotuner.study.tuner import Tuner

_CONTROL_EVERY = 4


def run_search(tuner: Tuner) -> None:
    """Run the search's trials: what a dead worker left, what the diagnosis suggests, the sampler's.

    A space with no more points than trials is walked through instead: a sampler would repeat some
    and miss others. It is over when no worker has a trial of it running, either: the race depends
    on all of them.
    """
    spec, facts = tuner.spec, tuner.facts
    sampler = tuner.study.sampler = make_sampler(
        spec.sampler, facts.space, tuner.records, between=tuner.between, seed=facts.seed
    )
    limit = spec.trials or spec.plan.trials
    enumerates = spec.sampler is SamplerName.GRID or facts.space.size <= limit
    grid = walk_grid(facts.space, seed=facts.seed) if enumerates else None
    suggested = [] if enumerates else _suggested(tuner)
    while True:
        with tuner.turn():
            ran = _goes_on(tuner) and _run_next(tuner, sampler, suggested, grid)
        if ran:
            continue
        if not tuner.others_run(*SEARCH_ROLES):
            break
        tuner.wait()  # what another worker does not finish is to be done again
    if _goes_on(tuner) and not enumerates:
        tuner.remark("the search ends here: further trials can hardly be expected to gain")


def _run_next(
    tuner: Tuner,
    sampler: BaseSampler,
    suggested: Sequence[Configuration],
    grid: Iterator[Configuration] | None,
) -> bool:
    """Run one trial, the most urgent one; return False if there is none to run now.

    Args:
        tuner: runs it.
        sampler: who proposes.
        suggested: what to try before that.
        grid: what to try instead of what is proposed.
    """
    _run_control_if_due(tuner)
    records, default = tuner.records(), tuner.facts.space.default
    planned = [*lost_tasks(records, default), *_untried(records, default, suggested)]
    if not planned and grid is not None:
        planned = list(_next_untried(records, default, grid))
    if planned:
        tuner.run_trial(Role.SEARCH, tuner.workers.pick(planned))
        return True
    if grid is not None or (tuner.spec.trials is None and not _has_hope(sampler)):
        return False
    return tuner.run_proposed()


def _goes_on(tuner: Tuner) -> bool:
    return tuner.budget.trials_left() > 0 and tuner.budget.has_time()


def _has_hope(sampler: BaseSampler) -> bool:
    return not isinstance(sampler, ModelSampler) or sampler.has_hope


def _run_control_if_due(tuner: Tuner) -> None:
    """Without duels, run the defaults now and then: the next trials are held against them.

    On each machine by itself: how fast another one is says nothing here.
    """
    if tuner.arena.method is Method.DUEL:
        return
    here = [r for r in tuner.records() if r.state in ENDED and r.machine == tuner.workers.machine]
    at = [i for i, r in enumerate(here) if r.role in (Role.DEFAULT, Role.CONTROL)]
    if not at or len(here) - 1 - at[-1] >= _CONTROL_EVERY:
        tuner.run_control()


def _tried(records: Sequence[TrialRecord], default: Configuration) -> set[str]:
    """Return the keys of what was tried, or is being tried."""
    return {
        record.key(default)
        for record in records
        if record.counts and record.role is not Role.IMPORTED
    }


def _suggested(tuner: Tuner) -> list[Configuration]:
    """Return what another study or the diagnosis suggests."""
    diagnosis = read_diagnosis(tuner.study)
    found = best_imported(tuner.records(), tuner.facts.space.default)
    if diagnosis is not None:
        found += first_candidates(diagnosis.bottleneck, tuner.facts.space)
    return found


def _untried(
    records: Sequence[TrialRecord],
    default: Configuration,
    configurations: Sequence[Configuration],
) -> list[Configuration]:
    if not configurations:
        return []
    tried = _tried(records, default)
    return [one for one in configurations if configuration_key(one) not in tried]


def _next_untried(
    records: Sequence[TrialRecord], default: Configuration, grid: Iterator[Configuration]
) -> Iterator[Configuration]:
    """Yield the next point of the grid that has not been tried, if there is one."""
    tried = _tried(records, default)
    points = (effective(point, default) for point in grid)
    yield from itertools.islice((p for p in points if configuration_key(p) not in tried), 1)
