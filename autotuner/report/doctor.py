"""The output of ``autotune doctor``: the machine, the interpreter, the knobs, and advice."""

from collections.abc import Iterable, Iterator

from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Build
from autotuner.knobs.liveness import Liveness
from autotuner.machine.conditions import Cause
from autotuner.machine.host import Machine
from autotuner.plain import plain
from autotuner.report.sections import Cell, Grid


def machine_lines(machine: Machine) -> Iterator[str]:
    """Yield the limits of a TensorFlow process here, a line each."""
    smt = "two per core (SMT)" if machine.has_smt else "one per core"
    yield f"CPU: {machine.cpu_model}" + (f", {machine.isa}" if machine.isa else "")
    yield (
        f"CPUs: {machine.affinity_cpus} in the affinity, {smt}; cores: {machine.physical_cores}, "
        f"sockets: {machine.sockets}, NUMA nodes: {machine.numa_nodes}"
    )
    quota = "none" if machine.quota_cpus is None else f"{machine.quota_cpus:g} CPUs"
    yield f"CPU quota: {quota}; usable CPUs: {machine.usable_cpus}"
    limit = "the cgroup's limit" if machine.memory_limited else "all of the machine's"
    yield f"memory: {machine.memory_bytes / 2**30:.1f} GiB, {limit}"
    yield f"frequency governor: {machine.governor or 'not reported by this machine'}"
    yield "allocators to preload: " + (", ".join(machine.allocators) or "none installed")


def build_line(build: Build, python: str) -> str:
    """Return a line on the interpreter's TensorFlow."""
    state = "on" if build.onednn_default else "off"
    package = build.package or "installed as something else"
    return (
        f"TensorFlow {build.tensorflow} ({package}), Python {build.python} ({python}); "
        f"oneDNN {state} by default; OpenMP: {build.openmp or 'none'}"
    )


def liveness_grid(found: Iterable[Liveness]) -> Grid:
    """Return a table of knobs with tier, state, reason and evidence."""
    rows = (
        (one.knob, KNOBS[one.knob].tier.value, one.state.value, one.reason, one.evidence)
        for one in found
    )
    return Grid(
        columns=("knob", "tier", "state", "why", "evidence"),
        rows=tuple(tuple(Cell(text=plain(text)) for text in row) for row in rows),
    )


def next_step(*, with_script: bool) -> str:
    """Return the next step."""
    if with_script:
        return "* tune it: autotune run with the same arguments"
    return "* look at a script: autotune doctor --model SCRIPT"


def advice_lines(causes: Iterable[Cause]) -> Iterator[str]:
    """Yield each cause with what to do about it."""
    for cause in causes:
        yield f"* {cause.text}"
        yield f"  -> {cause.advice}"
