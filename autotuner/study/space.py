"""The search space of a study, and how a trial's parameters become a configuration."""

import dataclasses

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from autotuner.knobs.catalogue import KNOBS, default_configuration, recipe_configuration
from autotuner.knobs.knob import Build, Configuration, Domain, IntRange, KnobValue
from autotuner.machine.host import Machine


def distribution(domain: Domain) -> BaseDistribution:
    """Return Optuna's distribution of a knob's domain."""
    if isinstance(domain, IntRange):
        return IntDistribution(domain.low, domain.high, log=domain.high > 8)
    return CategoricalDistribution(domain.options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The knobs that a study searches, their domains, the defaults and the recipe."""

    domains: dict[str, Domain] = dataclasses.field(hash=False)
    default: Configuration = dataclasses.field(hash=False)
    recipe: Configuration = dataclasses.field(hash=False)

    @property
    def size(self) -> int:
        """Number of configurations."""
        size = 1
        for domain in self.domains.values():
            size *= len(domain.values())
        return size

    def point(self, index: int) -> Configuration:
        """Return one of the ``size`` configurations by its index, from 0."""
        found: dict[str, KnobValue] = {}
        for name, domain in self.domains.items():
            values = domain.values()
            index, position = divmod(index, len(values))
            found[name] = values[position]
        return found

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distributions by knob."""
        return {name: distribution(domain) for name, domain in self.domains.items()}

    def holds(self, configuration: Configuration) -> bool:
        """Return whether a configuration lies in the space, so that Optuna can learn from it."""
        return all(
            name in configuration and configuration[name] in domain
            for name, domain in self.domains.items()
        )


def make_space(names: tuple[str, ...], *, machine: Machine, build: Build) -> Space:
    """Return the space of the named knobs on this machine."""
    return Space(
        domains={name: KNOBS[name].domain(machine) for name in names},
        default=default_configuration(names, machine=machine, build=build),
        recipe=recipe_configuration(names, machine=machine, build=build),
    )


def suggest(trial: optuna.Trial, space: Space) -> Configuration:
    """Return the configuration that the sampler proposes for a trial."""
    chosen: dict[str, KnobValue] = {}
    for name, domain in space.domains.items():
        if isinstance(domain, IntRange):
            log = domain.high > 8
            chosen[name] = trial.suggest_int(name, domain.low, domain.high, log=log)
        else:
            value = trial.suggest_categorical(name, list(domain.options))
            chosen[name] = str(value)
    return chosen
