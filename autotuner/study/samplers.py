"""Optuna's samplers, and the random order in which a grid is enumerated."""

import random
from collections.abc import Iterator

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import SamplerName
from autotuner.study.space import Space

_MOST_POINTS = 100_000


def optuna_sampler(name: SamplerName, *, seed: int, trials: int) -> BaseSampler:
    """Return one of Optuna's samplers.

    Args:
        name: TPE; any other name gives random search.
        seed: of the sampler.
        trials: of the study so far: a resumed study must not draw the same numbers again.
    """
    derived = (seed * 1_000_003 + trials) % 2**32
    if name is SamplerName.TPE:
        return TPESampler(seed=derived, n_startup_trials=8)
    return RandomSampler(seed=derived)


def walk_grid(space: Space, *, seed: int) -> Iterator[Configuration]:
    """Yield every configuration once in a random order; a random part of a huge space.

    Optuna's GridSampler and BruteForceSampler end a study by ``study.stop()``, which raises outside
    ``study.optimize``, and the first lists the whole product.
    """
    count = min(space.size, _MOST_POINTS)
    for index in random.Random(seed).sample(range(space.size), count):  # not for secrets
        yield space.point(index)
