"""Whether a worker may join a study: its trials must be comparable with those of the study.

A worker brings its own copy of the script, the arguments and the variables: write access to the
database must not be enough to run code on the workers.
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
    """A property of machines: its text, and whether two machines are alike in it."""

    text: Callable[[Machine], str]
    alike: Callable[[Machine, Machine], bool]


def _equal(text: Callable[[Machine], str]) -> _Part:
    return _Part(text, lambda one, other: text(one) == text(other))


def _memory_alike(one: Machine, other: Machine) -> bool:
    """Return whether two machines have about the same memory: firmware and kernels take some."""
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
"""The properties that define a class of machines, by their names in ``--machine-class``."""


def check_parts(names: Collection[str]) -> frozenset[str]:
    """Return the names as a set; raise UserError for an unknown one."""
    for name in names:
        if name not in PARTS:
            raise UserError(
                f'--machine-class: unknown part "{name}"', hint=did_you_mean(name, PARTS)
            )
    return frozenset(names)


def machine_differences(study: Machine, here: Machine, relaxed: Collection[str]) -> Iterator[str]:
    """Yield a line for each part in which this machine's class differs from the study's.

    Args:
        study: the machine on which the study was begun.
        here: this machine.
        relaxed: parts that may differ.
    """
    for name, part in PARTS.items():
        if name not in relaxed and not part.alike(study, here):
            yield f"{name}: {part.text(study)} in the study, {part.text(here)} here"


def identity_differences(study: Identity, here: Identity) -> Iterator[str]:
    """Yield a line for each difference of script, arguments, objective and versions.

    The script may have another path on each machine, and machines are compared by class.
    """
    arguments = tuple(study.model if one == here.model else one for one in here.arguments)
    alike = dataclasses.replace(here, model=study.model, machine=study.machine, arguments=arguments)
    for line in study.differences(alike):
        if line.startswith("the script has changed"):
            yield "the script: this copy differs from the study's (SHA-256)"
        else:
            yield line.replace(", now ", ", here ")


def build_differences(study: Build, here: Build) -> Iterator[str]:
    """Yield a line for each difference of the builds of TensorFlow.

    The OpenMP runtime is left out, because it is known only after the first steps.
    """
    for name in ("onednn_default", "package"):
        there, mine = getattr(study, name), getattr(here, name)
        if there != mine:
            yield f"TensorFlow's {name}: {there} in the study, {mine} here"


def space_problems(space: Space, here: Machine) -> Iterator[str]:
    """Yield a line for each knob or value of the study that this machine can't try."""
    for name, domain in space.domains.items():
        knob = KNOBS.get(name)
        if knob is None:
            yield f'knob "{name}": not known to this version of autotune'
        elif knob.means in (Means.PRELOAD, Means.AFFINITY):
            for value in domain.values():
                if value not in knob.domain(here).values():
                    yield f'knob "{name}": {value} is searched in the study, but not available here'
