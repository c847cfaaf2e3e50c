"""The catalogue of knobs, the vendor's recipe, and the choice of knobs for a study.

Sources: TensorFlow 2.21's ``process_util.cc`` (thread pools take their size from the variables
below, else from the affinity), ``tf.data``'s options, Intel's guide "Maximize TensorFlow
Performance on CPU" (the recipe). What was tested is in docs/knobs.md.
"""

from collections.abc import Iterable, Sequence

from autotuner.errors import UserError, did_you_mean
from autotuner.knobs.knob import (
    AS_WRITTEN,
    Build,
    Choice,
    Configuration,
    Domain,
    Group,
    IntRange,
    Knob,
    KnobValue,
    ReadAt,
)
from autotuner.machine import Machine


def _threads(machine: Machine) -> Domain:
    return IntRange(1, machine.usable_cpus)


def _affinity(machine: Machine, build: Build) -> KnobValue:
    return machine.affinity_cpus


def _powers_up_to(limit: int) -> tuple[str, ...]:
    return tuple(str(2**k) for k in range(limit.bit_length()) if 2**k <= limit)


def _map_parallelism(machine: Machine) -> Domain:
    # beyond the CPUs it pays only where a map waits (files, sockets): four per CPU is ample
    numbers = _powers_up_to(max(4, 4 * machine.usable_cpus))[1:]
    return Choice((AS_WRITTEN, "sequential", *numbers, "AUTOTUNE"))


def _prefetch_depth(machine: Machine) -> Domain:
    return Choice((AS_WRITTEN, "0", "1", "2", "4", "8", "16", "AUTOTUNE"))


def _data_threads(machine: Machine) -> Domain:
    return Choice((AS_WRITTEN, *_powers_up_to(max(4, 4 * machine.usable_cpus))))


def _as_written(machine: Machine, build: Build) -> KnobValue:
    return AS_WRITTEN


def _onednn_default(machine: Machine, build: Build) -> KnobValue:
    return "1" if build.onednn_default else "0"


KNOBS: dict[str, Knob] = {
    knob.name: knob
    for knob in (
        Knob(
            name="intra_op",
            group=Group.THREADS,
            summary="threads inside one op (also oneDNN's pool on the stock build)",
            variable="TF_NUM_INTRAOP_THREADS",
            read_at=ReadAt.FIRST_OP,
            domain=_threads,
            default=_affinity,
            changes_numerics=True,  # parallel sums are split elsewhere
        ),
        Knob(
            name="inter_op",
            group=Group.THREADS,
            summary="ops that may run at the same time",
            variable="TF_NUM_INTEROP_THREADS",
            read_at=ReadAt.FIRST_OP,
            domain=_threads,
            default=_affinity,
        ),
        Knob(
            name="map_parallelism",
            group=Group.DATA,
            summary="num_parallel_calls of the script's Dataset.map",
            variable="AUTOTUNE_MAP_PARALLELISM",
            read_at=ReadAt.DATASET,
            domain=_map_parallelism,
            default=_as_written,
            changes_order=True,  # only of random draws, see the child's pipeline.py
        ),
        Knob(
            name="prefetch_depth",
            group=Group.DATA,
            summary="elements held ready by the last prefetch of a dataset",
            variable="AUTOTUNE_PREFETCH_DEPTH",
            read_at=ReadAt.DATASET,
            domain=_prefetch_depth,
            default=_as_written,
        ),
        Knob(
            name="data_threads",
            group=Group.DATA,
            summary="threads of a dataset's private pool, the ceiling for map_parallelism",
            variable="AUTOTUNE_DATA_THREADS",
            read_at=ReadAt.DATASET,
            domain=_data_threads,
            default=_as_written,
        ),
        Knob(
            name="onednn",
            group=Group.ONEDNN,
            summary="oneDNN kernels on (1) or Eigen only (0)",
            variable="TF_ENABLE_ONEDNN_OPTS",
            read_at=ReadAt.TF_IMPORT,
            domain=lambda machine: Choice(("0", "1")),
            default=_onednn_default,
            changes_numerics=True,
        ),
        Knob(
            name="omp_num_threads",
            group=Group.OPENMP,
            summary="threads of the OpenMP pool (oneDNN on OpenMP builds)",
            variable="OMP_NUM_THREADS",
            read_at=ReadAt.LIBRARY_LOAD,
            domain=_threads,
            default=_affinity,
            changes_numerics=True,
        ),
        Knob(
            name="mkl_num_threads",
            group=Group.OPENMP,
            summary="threads of Intel MKL, where a library in the process uses it",
            variable="MKL_NUM_THREADS",
            read_at=ReadAt.LIBRARY_LOAD,
            domain=_threads,
            default=_affinity,
            changes_numerics=True,
        ),
        Knob(
            name="kmp_blocktime",
            group=Group.OPENMP,
            summary="milliseconds an Intel OpenMP thread spins before it sleeps",
            variable="KMP_BLOCKTIME",
            read_at=ReadAt.LIBRARY_LOAD,
            domain=lambda machine: Choice(("0", "1", "20", "200", "infinite")),
            default=lambda machine, build: "200",
        ),
        Knob(
            name="kmp_affinity",
            group=Group.OPENMP,
            summary="where Intel OpenMP pins its threads",
            variable="KMP_AFFINITY",
            read_at=ReadAt.LIBRARY_LOAD,
            domain=lambda machine: Choice(
                ("none", "granularity=fine,compact,1,0", "granularity=fine,scatter")
            ),
            default=lambda machine, build: "none",
        ),
    )
}

MANAGED_VARIABLES: tuple[str, ...] = tuple(sorted(knob.variable for knob in KNOBS.values()))
"""Variables that a trial's environment holds only if the trial's configuration sets them."""

_INTEL_OPENMP = "libiomp5"


def select_knobs(names: Sequence[str], *, build: Build, uses_datasets: bool) -> tuple[str, ...]:
    """Return the names of the knobs to search, in the catalogue's order.

    Args:
        names: knob or group names; none means all that can act here. A knob named here, or one
            whose group is named, is searched even where it can't act.
        build: the user's TensorFlow, as seen in the first trial.
        uses_datasets: whether the script feeds itself from a tf.data pipeline of its own.

    Raises:
        UserError: for an unknown name.
    """
    check_knob_names(names)
    if names:
        wanted = {n for n in KNOBS if n in names or KNOBS[n].group.value in names}
    else:
        groups = {Group.THREADS, Group.ONEDNN}
        groups |= {Group.DATA} if uses_datasets else set()
        groups |= {Group.OPENMP} if build.openmp is not None else set()
        intel = build.openmp is not None and build.openmp.startswith(_INTEL_OPENMP)
        wanted = {
            n
            for n, knob in KNOBS.items()
            if knob.group in groups and (intel or not n.startswith(("kmp_", "mkl_")))
        }
    return tuple(n for n in KNOBS if n in wanted)


def check_knob_names(names: Iterable[str]) -> None:
    """Raise UserError for the first name that is neither a knob nor a group."""
    known = [*KNOBS, *(group.value for group in Group)]
    for name in names:
        if name not in known:
            raise UserError(f'--knobs: unknown knob "{name}"', hint=did_you_mean(name, known))


def default_configuration(names: Sequence[str], *, machine: Machine, build: Build) -> Configuration:
    """Return what TensorFlow and the script do by themselves, written out."""
    return {name: KNOBS[name].default(machine, build) for name in names}


def recipe_configuration(names: Sequence[str], *, machine: Machine, build: Build) -> Configuration:
    """Return the vendor's recipe: physical cores inside an op, one op at a time per socket.

    Source: Intel's "Maximize TensorFlow Performance on CPU: Considerations and Recommendations":
    intra_op and OMP_NUM_THREADS = physical cores, inter_op = sockets, KMP_BLOCKTIME = 1 (0 or 1
    for convolutional networks), KMP_AFFINITY = granularity=fine,compact,1,0, tf.data on AUTOTUNE.
    """
    recipe: dict[str, KnobValue] = {
        "intra_op": machine.usable_cores,
        "inter_op": min(machine.sockets, machine.usable_cpus),
        "onednn": "1",
        "map_parallelism": "AUTOTUNE",
        "prefetch_depth": "AUTOTUNE",
        "omp_num_threads": machine.usable_cores,
        "mkl_num_threads": machine.usable_cores,
        "kmp_blocktime": "1",
        "kmp_affinity": "granularity=fine,compact,1,0",
    }
    default = default_configuration(names, machine=machine, build=build)
    return {name: recipe.get(name, default[name]) for name in names}


def as_environment(configuration: Configuration) -> dict[str, str]:
    """Return the environment variables that carry a configuration."""
    return {KNOBS[name].variable: str(value) for name, value in configuration.items()}
