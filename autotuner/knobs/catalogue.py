"""The catalogue of knobs, and the vendor's recipe.

Sources: TensorFlow 2.21's ``process_util.cc`` (thread pools take their size from the variables
below, or from the affinity), ``tf.data``'s options, Intel's guide "Maximize TensorFlow Performance
on CPU" (the recipe). docs/knobs.md lists what was tested.
"""

from collections.abc import Callable, Sequence

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
    Means,
    ReadAt,
    Tier,
)
from autotuner.machine.host import Machine


def _threads(machine: Machine) -> Domain:
    return IntRange(1, machine.usable_cpus)


def _affinity(machine: Machine, build: Build) -> KnobValue:
    return machine.affinity_cpus


def _powers_up_to(limit: int) -> tuple[str, ...]:
    return tuple(str(2**k) for k in range(limit.bit_length()) if 2**k <= limit)


def _map_parallelism(machine: Machine) -> Domain:
    # more calls than CPUs help only where a map waits (files, sockets): four per CPU suffice
    numbers = _powers_up_to(max(4, 4 * machine.usable_cpus))[1:]
    return Choice((AS_WRITTEN, "sequential", *numbers, "AUTOTUNE"))


def _prefetch_depth(machine: Machine) -> Domain:
    return Choice((AS_WRITTEN, "0", "1", "2", "4", "8", "16", "AUTOTUNE"))


def _data_threads(machine: Machine) -> Domain:
    return Choice((AS_WRITTEN, *_powers_up_to(max(4, 4 * machine.usable_cpus))))


def _batch_parallelism(machine: Machine) -> Domain:
    # a batch copies its elements and never waits: more calls than CPUs can't help
    return Choice((AS_WRITTEN, *_powers_up_to(max(2, machine.usable_cpus))[1:], "AUTOTUNE"))


def _cpu_budget(machine: Machine) -> Domain:
    return Choice((AS_WRITTEN, *_powers_up_to(machine.usable_cpus)))


def _as_written(machine: Machine, build: Build) -> KnobValue:
    return AS_WRITTEN


def _onednn_default(machine: Machine, build: Build) -> KnobValue:
    return "1" if build.onednn_default else "0"


def _onoff(machine: Machine) -> Domain:
    return Choice(("0", "1"))


def _fixed(value: str) -> Callable[[Machine, Build], KnobValue]:
    return lambda machine, build: value


def _options(*options: str) -> Callable[[Machine], Domain]:
    return lambda machine: Choice(options)


# "auto" alone clusters nothing on a CPU: both flags are needed (TensorFlow's jit/flags.cc)
_AUTO_JIT = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"

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
            changes_numerics=True,  # parallel sums are split at other places
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
            means=Means.CODE,
            changes_order=True,  # of random draws only, see the child's pipeline.py
        ),
        Knob(
            name="prefetch_depth",
            group=Group.DATA,
            summary="elements that the last prefetch of a dataset keeps ready",
            variable="AUTOTUNE_PREFETCH_DEPTH",
            read_at=ReadAt.DATASET,
            domain=_prefetch_depth,
            default=_as_written,
            means=Means.CODE,
        ),
        Knob(
            name="data_threads",
            group=Group.DATA,
            summary="threads of a dataset's private pool, the ceiling for map_parallelism",
            variable="AUTOTUNE_DATA_THREADS",
            read_at=ReadAt.DATASET,
            domain=_data_threads,
            default=_as_written,
            means=Means.CODE,
        ),
        Knob(
            name="onednn",
            group=Group.KERNELS,
            summary="oneDNN kernels on (1) or Eigen only (0)",
            variable="TF_ENABLE_ONEDNN_OPTS",
            # Intel's builds are compiled with ENABLE_MKL and read this one instead: util.cc
            also=("TF_DISABLE_MKL", lambda value: "1" if value == "0" else "0"),
            read_at=ReadAt.TF_IMPORT,
            domain=_onoff,
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
            needs=("onednn", "1"),
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
            domain=_options("0", "1", "20", "200", "infinite"),
            default=_fixed("200"),
            needs=("onednn", "1"),
        ),
        Knob(
            name="kmp_affinity",
            group=Group.OPENMP,
            summary="where Intel OpenMP pins its threads",
            variable="KMP_AFFINITY",
            read_at=ReadAt.LIBRARY_LOAD,
            domain=_options("none", "granularity=fine,compact,1,0", "granularity=fine,scatter"),
            default=_fixed("none"),
            needs=("onednn", "1"),
        ),
        Knob(
            name="interleave_parallelism",
            group=Group.DATA,
            summary="num_parallel_calls of the script's Dataset.interleave",
            variable="AUTOTUNE_INTERLEAVE_PARALLELISM",
            read_at=ReadAt.DATASET,
            domain=_map_parallelism,
            default=_as_written,
            means=Means.CODE,
        ),
        Knob(
            name="batch_parallelism",
            group=Group.DATA,
            summary="num_parallel_calls of the script's Dataset.batch: copying of elements",
            variable="AUTOTUNE_BATCH_PARALLELISM",
            read_at=ReadAt.DATASET,
            domain=_batch_parallelism,
            default=_as_written,
            means=Means.CODE,
        ),
        Knob(
            name="data_autotune",
            group=Group.DATA,
            summary="tf.data's own tuning while it runs, on (1) or off (0)",
            variable="AUTOTUNE_DATA_AUTOTUNE",
            read_at=ReadAt.DATASET,
            domain=_options(AS_WRITTEN, "0", "1"),
            default=_as_written,
            means=Means.CODE,
        ),
        Knob(
            name="data_cpu_budget",
            group=Group.DATA,
            summary="CPUs that tf.data's own tuning may plan with",
            variable="AUTOTUNE_DATA_CPU_BUDGET",
            read_at=ReadAt.DATASET,
            domain=_cpu_budget,
            default=_as_written,
            means=Means.CODE,
            needs=("data_autotune", AS_WRITTEN, "1"),
        ),
        Knob(
            name="steps_per_execution",
            group=Group.KERAS,
            summary="batches that keras runs in one call of its step function",
            variable="AUTOTUNE_STEPS_PER_EXECUTION",
            read_at=ReadAt.COMPILE,
            domain=_options(AS_WRITTEN, "2", "4", "8", "16", "32"),
            default=_as_written,
            tier=Tier.EXTENDED,
            means=Means.CODE,
        ),
        Knob(
            name="jit_compile",
            group=Group.XLA,
            summary="XLA compiles the whole keras step (1)",
            variable="AUTOTUNE_JIT_COMPILE",
            read_at=ReadAt.COMPILE,
            domain=_options(AS_WRITTEN, "1"),
            default=_as_written,
            tier=Tier.EXTENDED,
            means=Means.CODE,
            changes_numerics=True,
        ),
        Knob(
            name="auto_jit",
            group=Group.XLA,
            summary="XLA for clusters of ops that TensorFlow finds by itself",
            variable="TF_XLA_FLAGS",
            read_at=ReadAt.TF_IMPORT,
            domain=_options("off", "on"),
            default=_fixed("off"),
            tier=Tier.EXTENDED,
            unset="off",
            text=lambda value: _AUTO_JIT,
            changes_numerics=True,
        ),
        Knob(
            name="cpus",
            group=Group.PLACE,
            summary="CPUs to which the process is bound; they size the thread pools",
            variable="AUTOTUNE_CPUS",
            read_at=ReadAt.EXEC,
            domain=lambda machine: Choice(("all", *machine.cpu_sets)),
            default=_fixed("all"),
            tier=Tier.EXTENDED,
            means=Means.AFFINITY,
            unset="all",
        ),
        Knob(
            name="allocator",
            group=Group.MEMORY,
            summary="memory allocator, loaded before all other libraries",
            variable="LD_PRELOAD",
            read_at=ReadAt.EXEC,
            domain=lambda machine: Choice(("system", *machine.allocators)),
            default=_fixed("system"),
            tier=Tier.EXTENDED,
            means=Means.PRELOAD,
            unset="system",
        ),
        Knob(
            name="malloc_arenas",
            group=Group.MEMORY,
            summary="glibc's arenas: fewer need less memory, more have less contention",
            variable="MALLOC_ARENA_MAX",
            read_at=ReadAt.EXEC,
            domain=_options("default", "1", "2", "4"),
            default=_fixed("default"),
            tier=Tier.EXTENDED,
            unset="default",
            needs=("allocator", "system"),
        ),
        Knob(
            name="onednn_isa",
            group=Group.KERNELS,
            summary="widest instructions in oneDNN: wide ones may lower the clock",
            variable="ONEDNN_MAX_CPU_ISA",
            read_at=ReadAt.FIRST_KERNEL,
            domain=_options("DEFAULT", "AVX2", "AVX512_CORE"),
            default=_fixed("DEFAULT"),
            tier=Tier.EXTENDED,
            unset="DEFAULT",
            needs=("onednn", "1"),
            changes_numerics=True,
        ),
        Knob(
            name="onednn_keep_primitives",
            group=Group.KERNELS,
            summary="keep prepared convolutions (1: faster, more memory) or not (0)",
            variable="TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE",
            read_at=ReadAt.FIRST_KERNEL,
            domain=_onoff,
            default=_fixed("0"),
            tier=Tier.EXTENDED,
            # the variable has the opposite meaning: 1 saves memory
            text=lambda value: "0" if value == "1" else "1",
            needs=("onednn", "1"),
        ),
        Knob(
            name="batch_size",
            group=Group.KERAS,
            summary="samples per batch of keras' predict on arrays, and of --model FILES",
            variable="AUTOTUNE_BATCH_SIZE",
            read_at=ReadAt.DATASET,
            domain=_options(AS_WRITTEN, *(str(2**k) for k in range(9))),
            default=_as_written,
            tier=Tier.NUMERICS,
            means=Means.CODE,
            changes_numerics=True,
        ),
        Knob(
            name="fpmath",
            group=Group.KERNELS,
            summary="precision in oneDNN: BF16 is less exact, and faster on CPUs that have it",
            variable="ONEDNN_DEFAULT_FPMATH_MODE",
            read_at=ReadAt.FIRST_KERNEL,
            domain=_options("STRICT", "BF16"),
            default=_fixed("STRICT"),
            tier=Tier.NUMERICS,
            unset="STRICT",
            needs=("onednn", "1"),
            changes_numerics=True,
        ),
    )
}

MANAGED_VARIABLES: tuple[str, ...] = tuple(
    sorted(
        variable
        for knob in KNOBS.values()
        if knob.means is not Means.PRELOAD
        for variable in (knob.variable, knob.also and knob.also[0])
        if variable
    )
)
"""Variables that a trial's environment holds only if the trial's configuration sets them.

LD_PRELOAD is not among them: the user's own preloads may be needed for other reasons.
"""


def default_configuration(names: Sequence[str], *, machine: Machine, build: Build) -> Configuration:
    """Return the values that TensorFlow and the script use by themselves."""
    return {name: KNOBS[name].default(machine, build) for name in names}


def recipe_configuration(names: Sequence[str], *, machine: Machine, build: Build) -> Configuration:
    """Return the vendor's recipe: physical cores inside an op, one op at a time per socket.

    Source: Intel's "Maximize TensorFlow Performance on CPU: Considerations and Recommendations":
    intra_op and OMP_NUM_THREADS = physical cores, inter_op = sockets, KMP_BLOCKTIME = 1 (0 or 1
    for convolutional networks), KMP_AFFINITY = granularity=fine,compact,1,0, tf.data on AUTOTUNE.
    Under a CPU quota tf.data's pool and budget are set as well, which the guide does not mention.
    """
    recipe: dict[str, KnobValue] = {
        "intra_op": machine.usable_cores,
        "inter_op": min(machine.sockets, machine.usable_cpus),
        "onednn": "1",
        "map_parallelism": "AUTOTUNE",
        "interleave_parallelism": "AUTOTUNE",
        "prefetch_depth": "AUTOTUNE",
        "omp_num_threads": machine.usable_cores,
        "mkl_num_threads": machine.usable_cores,
        "kmp_blocktime": "1",
        "kmp_affinity": "granularity=fine,compact,1,0",
    }
    if machine.usable_cpus < machine.affinity_cpus:
        # a quota: tf.data ignores it as well, and sizes its pool and its plans by the affinity
        powers = _powers_up_to(machine.usable_cpus)
        recipe.update(data_threads=powers[-1], data_cpu_budget=powers[-1])
    default = default_configuration(names, machine=machine, build=build)
    return {name: recipe.get(name, default[name]) for name in names}


def as_environment(configuration: Configuration) -> dict[str, str]:
    """Return the environment variables that carry a configuration."""
    found: dict[str, str] = {}
    for name, value in configuration.items():
        knob = KNOBS[name]
        if value == knob.unset:
            continue
        found[knob.variable] = knob.text(value)
        if knob.also is not None:
            variable, text = knob.also
            found[variable] = text(value)
    return found
