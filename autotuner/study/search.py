"""The search: which configurations are tried, until the number of trials or the time is used up."""

from collections.abc import Iterator

from optuna.samplers import BaseSampler

from autotuner.knobs.knob import Configuration
from autotuner.knobs.selection import effective
from autotuner.spec.study_spec import SamplerName
from autotuner.study.budget import ENDED
from autotuner.study.candidates import first_candidates
from autotuner.study.importing import best_imported
from autotuner.study.model_sampler import ModelSampler
from autotuner.study.noise import Method
from autotuner.study.record import Role, configuration_key, read_diagnosis
from autotuner.study.samplers import make_sampler, walk_grid
from autotuner.study.tuner import Tuner

_CONTROL_EVERY = 4


def run_search(tuner: Tuner) -> None:
    """Run the search's trials: what the diagnosis suggests, then what the sampler proposes.

    A space with no more points than trials is walked through instead: a sampler would repeat some
    and miss others.
    """
    spec, facts = tuner.spec, tuner.facts
    sampler = tuner.study.sampler = make_sampler(
        spec.sampler, facts.space, tuner.records, between=tuner.between, seed=facts.seed
    )
    limit = spec.trials or spec.plan.trials
    enumerates = spec.sampler is SamplerName.GRID or facts.space.size <= limit
    grid = walk_grid(facts.space, seed=facts.seed)
    for configuration in [] if enumerates else _suggested(tuner):
        if _goes_on(tuner):
            _run_control_if_due(tuner)
            tuner.run_trial(Role.SEARCH, configuration)
    while _goes_on(tuner):
        _run_control_if_due(tuner)
        if enumerates:
            point = _next_untried(tuner, grid)
            if point is None:
                break
            tuner.run_trial(Role.SEARCH, point)
        elif spec.trials is None and not _has_hope(sampler):
            tuner.remark("the search ends here: further trials can hardly be expected to gain")
            break
        else:
            tuner.run_proposed()


def _goes_on(tuner: Tuner) -> bool:
    return tuner.budget.trials_left() > 0 and tuner.budget.has_time()


def _has_hope(sampler: BaseSampler) -> bool:
    return not isinstance(sampler, ModelSampler) or sampler.has_hope


def _run_control_if_due(tuner: Tuner) -> None:
    """Without duels, run the defaults now and then: the next trials are held against them."""
    if tuner.arena.method is Method.DUEL:
        return
    ended = [r for r in tuner.records() if r.state in ENDED]
    at = max((i for i, r in enumerate(ended) if r.role in (Role.DEFAULT, Role.CONTROL)))
    if len(ended) - 1 - at >= _CONTROL_EVERY:
        tuner.run_trial(Role.CONTROL, {})


def _tried(tuner: Tuner) -> set[str]:
    default = tuner.facts.space.default
    return {
        record.key(default)
        for record in tuner.records()
        if record.state in ENDED and record.role is not Role.IMPORTED
    }


def _suggested(tuner: Tuner) -> list[Configuration]:
    """Return what another study or the diagnosis suggests and has not been tried."""
    diagnosis, tried = read_diagnosis(tuner.study), _tried(tuner)
    found = best_imported(tuner.records(), tuner.facts.space.default)
    if diagnosis is not None:
        found += first_candidates(diagnosis.bottleneck, tuner.facts.space)
    return [one for one in found if configuration_key(one) not in tried]


def _next_untried(tuner: Tuner, grid: Iterator[Configuration]) -> Configuration | None:
    default, tried = tuner.facts.space.default, _tried(tuner)
    points = (effective(point, default) for point in grid)
    return next((point for point in points if configuration_key(point) not in tried), None)
