"""Which knobs can act on a script, a TensorFlow build and a machine, with the evidence.

Pure rules over the evidence of one short run (trial/probe.py). A knob is searched by default if it
is live or unknown; an inert knob stays at its default, and the reason is shown.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence

from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import IntRange, Knob, Means
from autotuner.machine.host import Machine


class KnobState(enum.StrEnum):
    """Whether a knob can act."""

    LIVE = "live"
    INERT = "inert"
    UNKNOWN = "unknown"


class EvidenceScope(enum.StrEnum):
    """What was run for the evidence: nothing, drivers/two_ops.py, or the user's script."""

    NOTHING = "nothing"
    BUILD = "build"
    SCRIPT = "script"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """A line of the user's code that builds or iterates a dataset.

    ``parallel``: ``num_parallel_calls`` as written, or None. ``stateful``: the stateful ops of its
    function; ``why_sequential``: why it must stay sequential.
    """

    op: str
    where: str
    parallel: str | None = None
    stateful: tuple[str, ...] = ()
    why_sequential: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """A call of fit, evaluate or predict. ``batch_callbacks``: those with hooks for each batch."""

    loop: str
    where: str
    batch_callbacks: tuple[str, ...] = ()
    run_eagerly: bool = False
    jit_compile: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """The findings of one short run of the script.

    ``libraries``: names of mapped files by kind (openmp, mkl, allocator). ``threads``: counts of
    threads by name at the end. ``onednn_runtime``: "threadpool" or "OpenMP" as oneDNN prints it,
    None if it printed nothing; ``onednn_isa``: its instruction set; ``onednn_primitives``: how
    often each kind ran. ``seconds``: length of the run. ``scope``: what was run.
    """

    sites: tuple[Site, ...] = ()
    loops: tuple[Loop, ...] = ()
    libraries: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    threads: Mapping[str, int] = dataclasses.field(default_factory=dict)
    onednn_runtime: str | None = None
    onednn_isa: str | None = None
    onednn_primitives: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    scope: EvidenceScope = EvidenceScope.SCRIPT

    def at(self, *ops: str) -> list[Site]:
        """Return the sites of these operations."""
        return [site for site in self.sites if site.op in ops]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Liveness:
    """A knob's state, the reason, and the evidence."""

    knob: str
    state: KnobState
    reason: str
    evidence: str = ""


_LivenessRule = Callable[[Evidence], tuple[KnobState, str, str]]


def find_liveness(
    names: Iterable[str], evidence: Evidence, machine: Machine
) -> tuple[Liveness, ...]:
    """Return the state of each of these knobs."""
    found = []
    for name in names:
        knob = KNOBS[name]
        state, reason, seen = (
            _single_value(knob, machine)
            or _without_evidence(name, evidence)
            or _RULES[name](evidence)
        )
        found.append(Liveness(knob=name, state=state, reason=reason, evidence=seen))
    return tuple(found)


def _single_value(knob: Knob, machine: Machine) -> tuple[KnobState, str, str] | None:
    values = knob.domain(machine).values()
    if len(values) > 1:
        return None
    if isinstance(knob.domain(machine), IntRange):
        if machine.affinity_cpus > 1:
            return None  # a quota: TensorFlow's default is another value
        return KnobState.INERT, "there is only one CPU", "affinity: 1 CPU"
    return KnobState.INERT, "only one value is possible here", f"the value is {values[0]}"


def _without_evidence(name: str, evidence: Evidence) -> tuple[KnobState, str, str] | None:
    if evidence.scope is EvidenceScope.NOTHING:
        return KnobState.UNKNOWN, "the script was not inspected", ""
    if evidence.scope is EvidenceScope.BUILD and KNOBS[name].means is Means.CODE:
        return KnobState.UNKNOWN, "depends on the script: give --model", ""
    return None


def _intra_op(evidence: Evidence) -> tuple[KnobState, str, str]:
    return KnobState.LIVE, "sizes the pool in which single ops are split", _threads(evidence)


def _inter_op(evidence: Evidence) -> tuple[KnobState, str, str]:
    return KnobState.LIVE, "sizes the pool that runs ops at the same time", _threads(evidence)


def _threads(evidence: Evidence) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in sorted(evidence.threads.items())[:6])
    return f"threads at the end: {counts}" if counts else ""


def _own_pipeline(evidence: Evidence) -> tuple[KnobState, str, str] | None:
    """Return why no knob of tf.data can act, or None if the script has a pipeline."""
    if evidence.at("iterate"):
        return None
    inside = evidence.at("iterate in graph")
    if inside:
        reason = "the dataset is iterated inside a tf.function, where autotune can't change it"
        return KnobState.INERT, reason, _lines(inside)
    return (
        KnobState.INERT,
        "the script iterates no tf.data pipeline of its own",
        "no Dataset.__iter__",
    )


def _map_parallelism(evidence: Evidence) -> tuple[KnobState, str, str]:
    maps = evidence.at("map")
    if not maps:
        return KnobState.INERT, "the script calls no Dataset.map", _lines(evidence.sites)
    free = [site for site in maps if site.parallel is not None or site.why_sequential is None]
    if not free:
        return (
            KnobState.INERT,
            f"no map may become parallel: {maps[0].why_sequential}",
            _lines(maps),
        )
    return KnobState.LIVE, "the script maps a dataset", _lines(free)


def _interleave_parallelism(evidence: Evidence) -> tuple[KnobState, str, str]:
    sites = evidence.at("interleave")
    if not sites:
        return KnobState.INERT, "the script calls no Dataset.interleave", ""
    free = [site for site in sites if site.parallel is not None or site.why_sequential is None]
    if not free:
        reason = f"no interleave may become parallel: {sites[0].why_sequential}"
        return KnobState.INERT, reason, _lines(sites)
    return KnobState.LIVE, "the script interleaves datasets", _lines(free)


def _batch_parallelism(evidence: Evidence) -> tuple[KnobState, str, str]:
    sites = evidence.at("batch")
    if not sites:
        return KnobState.INERT, "the script calls no Dataset.batch", ""
    return KnobState.LIVE, "the script batches a dataset", _lines(sites)


def _prefetch_depth(evidence: Evidence) -> tuple[KnobState, str, str]:
    return _own_pipeline(evidence) or (
        KnobState.LIVE,
        "the script iterates a pipeline, whose last prefetch can be set",
        _lines(evidence.at("iterate")),
    )


def _data_threads(evidence: Evidence) -> tuple[KnobState, str, str]:
    nothing = _own_pipeline(evidence)
    if nothing is not None:
        return nothing
    parallel = [
        site
        for site in evidence.at("map", "interleave", "batch")
        if site.parallel is not None or (site.op == "map" and site.why_sequential is None)
    ]
    if not parallel:
        reason = "no stage of the pipeline runs in parallel, and only parallel stages use the pool"
        return KnobState.INERT, reason, _lines(evidence.at("iterate"))
    return KnobState.LIVE, "parallel stages use the pool", _lines(parallel)


def _onednn(evidence: Evidence) -> tuple[KnobState, str, str]:
    if evidence.onednn_runtime is None:
        return KnobState.UNKNOWN, "oneDNN printed nothing in the short run", ""
    if not evidence.onednn_primitives:
        return KnobState.INERT, "no op of the first steps uses oneDNN", _onednn_line(evidence)
    return KnobState.LIVE, "ops of the first steps run in oneDNN", _onednn_line(evidence)


def _onednn_line(evidence: Evidence) -> str:
    kinds = sorted(evidence.onednn_primitives.items(), key=lambda item: -item[1])
    counts = ", ".join(f"{kind} {n}" for kind, n in kinds[:4])
    return f"oneDNN's log: runtime {evidence.onednn_runtime}; ran {counts or 'no primitive'}"


def _openmp(library: str) -> _LivenessRule:
    """Return the rule of a variable that an OpenMP runtime reads.

    Args:
        library: the beginning of that runtime's file name.
    """

    def rule(evidence: Evidence) -> tuple[KnobState, str, str]:
        found = [f for f in evidence.libraries.get("openmp", ()) if f.startswith(library)]
        runtime = f"oneDNN's log: runtime {evidence.onednn_runtime or '-'}"
        if not found:
            what = "Intel's OpenMP runtime" if library else "an OpenMP runtime"
            seen = "; ".join(evidence.libraries.get("openmp", ())) or "no OpenMP library mapped"
            return KnobState.INERT, f"{what} is not loaded by this TensorFlow", f"{seen}; {runtime}"
        return KnobState.LIVE, "an OpenMP runtime is in the process", f"{found[0]}; {runtime}"

    return rule


def _mkl(evidence: Evidence) -> tuple[KnobState, str, str]:
    found = evidence.libraries.get("mkl", ())
    if not found:
        return KnobState.INERT, "Intel MKL is not loaded by this TensorFlow", "no libmkl mapped"
    return KnobState.LIVE, "Intel MKL is in the process", "; ".join(found)


def _data_options(evidence: Evidence) -> tuple[KnobState, str, str]:
    sites = evidence.at("iterate", "iterate by keras")
    if not sites:
        nothing = _own_pipeline(evidence)
        assert nothing is not None  # there is no site "iterate"
        return nothing
    return KnobState.LIVE, "tf.data tunes its pipelines while they run", _lines(sites)


def _keras_loop(evidence: Evidence) -> tuple[KnobState, str, str] | None:
    """Return why no knob of keras' loops can act, or None if there is a loop to act on."""
    if not evidence.loops:
        return KnobState.INERT, "the script runs no keras fit, evaluate or predict", ""
    if all(loop.run_eagerly for loop in evidence.loops):
        return KnobState.INERT, "the model runs eagerly", evidence.loops[0].where
    return None


def _steps_per_execution(evidence: Evidence) -> tuple[KnobState, str, str]:
    nothing = _keras_loop(evidence)
    if nothing is not None:
        return nothing
    free = [loop for loop in evidence.loops if not loop.batch_callbacks]
    if not free:
        names = ", ".join(evidence.loops[0].batch_callbacks)
        return KnobState.INERT, f"{names} has hooks for each batch", _places(evidence.loops)
    return KnobState.LIVE, "no callback has hooks for each batch", _places(free)


def _jit_compile(evidence: Evidence) -> tuple[KnobState, str, str]:
    nothing = _keras_loop(evidence)
    if nothing is not None:
        return nothing
    if all(loop.jit_compile for loop in evidence.loops):
        return (
            KnobState.INERT,
            "the script already compiles its model by XLA",
            _places(evidence.loops),
        )
    return KnobState.LIVE, "XLA does not compile the model yet", _places(evidence.loops)


def _predicts_arrays(evidence: Evidence) -> tuple[KnobState, str, str]:
    loops = [loop for loop in evidence.loops if loop.loop == "predict"]
    if not loops:
        return KnobState.INERT, "the script does not call keras' predict", ""
    return KnobState.LIVE, "the script predicts", _places(loops)


def _places(loops: Sequence[Loop]) -> str:
    return ", ".join(f"{loop.loop} at {loop.where.rsplit('/', 1)[-1]}" for loop in loops[:3])


def _always(reason: str) -> _LivenessRule:
    return lambda evidence: (KnobState.LIVE, reason, "")


def _uses_onednn(primitive: str | None, reason: str) -> _LivenessRule:
    """Return the rule of a variable that oneDNN reads, for all primitives or for one kind."""

    def rule(evidence: Evidence) -> tuple[KnobState, str, str]:
        state, why, seen = _onednn(evidence)
        if state is not KnobState.LIVE:
            return state, why, seen
        if primitive is not None and primitive not in evidence.onednn_primitives:
            return KnobState.INERT, f"no {primitive} runs in oneDNN", seen
        return KnobState.LIVE, reason, seen

    return rule


def _lines(sites: Sequence[Site]) -> str:
    places = [f"{site.op} at {site.where.rsplit('/', 1)[-1]}" for site in sites]
    return ", ".join(dict.fromkeys(places[:5])) + (", ..." if len(places) > 5 else "")


_RULES: dict[str, _LivenessRule] = {
    "intra_op": _intra_op,
    "inter_op": _inter_op,
    "map_parallelism": _map_parallelism,
    "interleave_parallelism": _interleave_parallelism,
    "batch_parallelism": _batch_parallelism,
    "prefetch_depth": _prefetch_depth,
    "data_threads": _data_threads,
    "onednn": _onednn,
    "omp_num_threads": _openmp(""),
    "mkl_num_threads": _mkl,
    "kmp_blocktime": _openmp("libiomp5"),
    "kmp_affinity": _openmp("libiomp5"),
    "data_autotune": _data_options,
    "data_cpu_budget": _data_options,
    "steps_per_execution": _steps_per_execution,
    "jit_compile": _jit_compile,
    "auto_jit": _always("TensorFlow looks for clusters in every graph"),
    "cpus": _always("the process can be bound to some of the CPUs"),
    "allocator": _always("an allocator can be loaded before all other libraries"),
    "malloc_arenas": _always("glibc's allocator reads it when the process starts"),
    "onednn_isa": _uses_onednn(None, "oneDNN selects its kernels by it"),
    "onednn_keep_primitives": _uses_onednn(
        "convolution", "without it oneDNN prepares convolutions each time"
    ),
    "batch_size": _predicts_arrays,
    "fpmath": _uses_onednn(None, "oneDNN may compute in less precision"),
}
