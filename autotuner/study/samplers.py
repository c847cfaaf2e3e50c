"""Who proposes configurations: our sampler, one of Optuna's, or the grid in a random order."""

import random
from collections.abc import Callable, Iterator, Sequence

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import SamplerName
from autotuner.study.model_sampler import ModelSampler
from autotuner.study.record import TrialRecord
from autotuner.study.space import Space


def make_sampler(
    name: SamplerName,
    space: Space,
    records: Callable[[], Sequence[TrialRecord]],
    *,
    between: float,
    seed: int,
) -> BaseSampler:
    """Return a sampler.

    A resumed study must not draw the same random numbers again, so the seed depends on the number
    of trials as well.

    Args:
        name: which one.
        space: what is searched.
        records: returns the study's trials so far.
        between: standard deviation of log gains from process to process.
        seed: of what is drawn.
    """
    derived = (seed * 1_000_003 + len(records())) % 2**32
    match name:
        case SamplerName.GP:
            return ModelSampler(space, records, between=between, seed=derived)
        case SamplerName.RANDOM | SamplerName.GRID:
            return RandomSampler(seed=derived)
        case SamplerName.TPE:
            return TPESampler(seed=derived, n_startup_trials=8)


_MOST_POINTS = 100_000


def walk_grid(space: Space, *, seed: int) -> Iterator[Configuration]:
    """Yield every configuration once in a random order; of a huge space a random part.

    Optuna's GridSampler and BruteForceSampler end a study by ``study.stop()``, which raises outside
    ``study.optimize``, and the first lists the whole product.
    """
    count = min(space.size, _MOST_POINTS)
    for index in random.Random(seed).sample(range(space.size), count):  # not for secrets
        yield space.point(index)
