"""Who proposes configurations: Optuna's samplers by name, or the grid in a random order."""

import importlib.util
import random
import warnings
from collections.abc import Iterator

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from autotuner.errors import UserError
from autotuner.knobs.knob import Configuration, KnobValue
from autotuner.spec.study_spec import SamplerName
from autotuner.study.space import Space


def make_sampler(name: SamplerName, *, seed: int, trials_so_far: int) -> BaseSampler:
    """Return a sampler.

    A resumed study must not draw the same random numbers again, so the seed depends on the number
    of trials as well.

    Raises:
        UserError: if the sampler needs a package that is not installed.
    """
    derived = (seed * 1_000_003 + trials_so_far) % 2**32
    match name:
        case SamplerName.RANDOM | SamplerName.GRID:
            return RandomSampler(seed=derived)
        case SamplerName.GP:
            return _gp_sampler(derived)
        case SamplerName.TPE:
            return TPESampler(seed=derived, n_startup_trials=8)


def check_sampler(name: SamplerName) -> None:
    """Raise UserError if a sampler needs a package that is not installed."""
    if name is SamplerName.GP:
        for package in ("scipy", "torch"):
            if importlib.util.find_spec(package) is None:
                hint = "pip install torch scipy, or use --sampler tpe"
                raise UserError(f"--sampler gp: needs the package {package}", hint=hint)


def _gp_sampler(seed: int) -> BaseSampler:
    check_sampler(SamplerName.GP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(seed=seed)


_MOST_POINTS = 100_000


def walk_grid(space: Space, *, seed: int) -> Iterator[Configuration]:
    """Yield every configuration once in a random order; of a huge space a random part.

    Optuna's GridSampler and BruteForceSampler end a study by ``study.stop()``, which raises outside
    ``study.optimize``, and the first lists the whole product.
    """
    axes = [(name, domain.values()) for name, domain in space.domains.items()]
    count = min(space.size, _MOST_POINTS)
    for index in random.Random(seed).sample(range(space.size), count):  # not for secrets
        rest, configuration = index, dict[str, KnobValue]()
        for name, values in axes:
            rest, position = divmod(rest, len(values))
            configuration[name] = values[position]
        yield configuration
