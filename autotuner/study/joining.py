"""May a worker join a study? What makes trials comparable must be here what it is there.

A worker brings its own copy of the script, of its arguments and of the variables that the study
sets for it: whoever can write to the database must not be able to run anything on the workers.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping

from autotuner.errors import UserError, did_you_mean
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Build, Means
from autotuner.machine.host import Machine
from autotuner.study.identity import Identity
from autotuner.study.space import Space

_MEMORY_ALIKE = 0.05


@dataclasses.dataclass(frozen=True)
class _Part:
    """Something about machines: how it is said, and when two are alike in it."""

    said: Callable[[Machine], str]
    alike: Callable[[Machine, Machine], bool]


def _equal(said: Callable[[Machine], str]) -> _Part:
    return _Part(said, lambda one, other: said(one) == said(other))


def _memory_alike(one: Machine, other: Machine) -> bool:
    """Tell whether two have about as much: firmware and kernels keep a little for themselves."""
    sizes = (one.memory_bytes, other.memory_bytes)
    return max(sizes) - min(sizes) <= _MEMORY_ALIKE * max(sizes)


PARTS: Mapping[str, _Part] = {
    "cpu": _equal(lambda m: m.cpu_model),
    "cores": _equal(
        lambda m: f"{m.affinity_cpus} CPUs on {m.physical_cores} cores, {m.numa_nodes} NUMA node(s)"
    ),
    "quota": _equal(lambda m: "none" if m.quota_cpus is None else f"{m.quota_cpus:g} CPUs"),
    "memory": _Part(lambda m: f"{m.memory_bytes / 2**30:.1f} GiB", _memory_alike),
    "isa": _equal(lambda m: m.isa or "unknown"),
}
"""What makes up a class of machines, by the names that ``--machine-class`` takes."""


def check_parts(names: Collection[str]) -> frozenset[str]:
    """Return names of parts; raise UserError for one that there is not."""
    for name in names:
        if name not in PARTS:
            raise UserError(
                f'--machine-class: unknown part "{name}"', hint=did_you_mean(name, PARTS)
            )
    return frozenset(names)


def machine_differences(study: Machine, here: Machine, relaxed: Collection[str]) -> Iterator[str]:
    """Yield in what this machine is of another class than the study's, a line each.

    Args:
        study: the machine on which the study was begun.
        here: this one.
        relaxed: parts in which it may be another.
    """
    for name, part in PARTS.items():
        if name not in relaxed and not part.alike(study, here):
            yield f"{name}: {part.said(study)} in the study, {part.said(here)} here"


def identity_differences(study: Identity, here: Identity) -> Iterator[str]:
    """Yield in what script, arguments, objective or versions differ, a line each.

    Where the script lies may be another place on each machine, and machines are compared by class.
    """
    arguments = tuple(study.model if one == here.model else one for one in here.arguments)
    alike = dataclasses.replace(here, model=study.model, machine=study.machine, arguments=arguments)
    for line in study.differences(alike):
        if line.startswith("the script has changed"):
            yield "the script: this copy is another one than the study's (SHA-256)"
        else:
            yield line.replace(", now ", ", here ")


def build_differences(study: Build, here: Build) -> Iterator[str]:
    """Yield in what the builds of TensorFlow differ, a line each.

    Which OpenMP runtime there is shows only after the first steps, so that is left out.
    """
    for name in ("onednn_default", "package"):
        there, mine = getattr(study, name), getattr(here, name)
        if there != mine:
            yield f"TensorFlow's {name}: {there} in the study, {mine} here"


def space_problems(space: Space, here: Machine) -> Iterator[str]:
    """Yield what the study searches and this machine can't do, a line each."""
    for name, domain in space.domains.items():
        knob = KNOBS.get(name)
        if knob is None:
            yield f'knob "{name}": not known to this version of autotune'
        elif knob.means in (Means.PRELOAD, Means.AFFINITY):
            for value in domain.values():
                if value not in knob.domain(here).values():
                    yield f'knob "{name}": {value} is tried in the study, and is not here'
