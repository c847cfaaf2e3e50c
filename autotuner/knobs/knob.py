"""A knob as data, without behaviour."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import TypeAlias

from autotuner.machine.host import Machine

KnobValue: TypeAlias = int | str
Configuration: TypeAlias = Mapping[str, KnobValue]
"""Values by knob name; a knob that is absent stays as TensorFlow or the script has it."""

AS_WRITTEN = "as_written"
"""The value of a tf.data knob that leaves the script's own choice alone."""


class Group(enum.StrEnum):
    """Knobs that a user selects together."""

    THREADS = "threads"
    DATA = "data"
    KERNELS = "kernels"
    OPENMP = "openmp"
    KERAS = "keras"
    XLA = "xla"
    MEMORY = "memory"
    PLACE = "place"


class Tier(enum.StrEnum):
    """What a knob may change besides speed.

    SAFE: nothing visible; results may differ by rounding. EXTENDED: how often batch callbacks run,
    compile time, memory. NUMERICS: precision; searched only if named, and guarded.
    """

    SAFE = "safe"
    EXTENDED = "extended"
    NUMERICS = "numerics"


class Means(enum.StrEnum):
    """How a value gets into the process."""

    ENVIRONMENT = "environment"
    CODE = "code"
    PRELOAD = "preload"
    AFFINITY = "affinity"


class ReadAt(enum.StrEnum):
    """When TensorFlow or a library under it reads the value, which it does once."""

    EXEC = "when the process starts"
    LIBRARY_LOAD = "when the OpenMP or BLAS library is loaded"
    TF_IMPORT = "import tensorflow"
    FIRST_OP = "first op"
    FIRST_KERNEL = "first kernel that uses it"
    DATASET = "when a dataset is built or iterated"
    COMPILE = "when the model is compiled"


@dataclasses.dataclass(frozen=True)
class IntRange:
    """Integers from low to high, both included."""

    low: int
    high: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high

    def values(self) -> tuple[KnobValue, ...]:
        """Return every value of the domain."""
        return tuple(range(self.low, self.high + 1))


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few unordered values; all are strings, because Optuna confuses 0 and False."""

    options: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.options

    def values(self) -> tuple[KnobValue, ...]:
        """Return every value of the domain."""
        return self.options


Domain: TypeAlias = IntRange | Choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build:
    """An interpreter's TensorFlow build, as the probe found it."""

    tensorflow: str
    keras: str
    python: str
    onednn_default: bool
    openmp: str | None
    """Name of an OpenMP runtime mapped into the process after the first steps, if any."""
    package: str = ""
    """The distribution that TensorFlow was installed from, such as intel-tensorflow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knob:
    """One knob.

    ``variable``: the environment variable that carries the value. Where ``means`` is CODE,
    TensorFlow does not read it: the child and the exported Python file apply the value by code, and
    the variable only offers it to scripts. ``unset``: the value for which the variable is not set;
    ``text``: the variable's content for any other value. ``also``: a variable that other builds
    read instead, and its content. ``default``: the value that TensorFlow uses by itself on this
    machine and build; it may lie outside the domain (a quota may be below the affinity). ``needs``:
    the name of another knob, and the values of it with which this knob acts. ``changes_numerics``:
    rounding may differ from the default's. ``changes_order``: the assignment of random draws to
    elements may differ (the order of elements never does).
    """

    name: str
    group: Group
    summary: str
    variable: str
    read_at: ReadAt
    domain: Callable[[Machine], Domain]
    default: Callable[[Machine, Build], KnobValue]
    tier: Tier = Tier.SAFE
    means: Means = Means.ENVIRONMENT
    unset: str | None = None
    text: Callable[[KnobValue], str] = str
    also: tuple[str, Callable[[KnobValue], str]] | None = None
    needs: tuple[str, ...] = ()
    changes_numerics: bool = False
    changes_order: bool = False
