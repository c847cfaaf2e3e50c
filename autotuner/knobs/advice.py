"""Problems that an environment or a machine will cause a TensorFlow process, and what to do."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from autotuner.knobs.knob import Build
from autotuner.machine.conditions import Cause
from autotuner.machine.host import Machine

_THREAD_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
_INERT_ON_STOCK = ("KMP_BLOCKTIME", "KMP_AFFINITY", "KMP_SETTINGS", "MKL_NUM_THREADS")


def find_advice(
    environment: Mapping[str, str], machine: Machine, build: Build, *, dev: Path = Path("/dev")
) -> list[Cause]:
    """Return the problems, the worst first.

    Args:
        environment: the variables that a script would start with.
        machine: this machine.
        build: the TensorFlow build.
        dev: the path of /dev.
    """
    return [
        *_from_quota(environment, machine),
        *_from_threads(environment, machine, build),
        *_from_inert(environment, build),
        *_from_onednn(environment, build),
        *_from_devices(dev),
    ]


def _from_quota(environment: Mapping[str, str], machine: Machine) -> Iterator[Cause]:
    if machine.usable_cpus < machine.affinity_cpus:
        unset = [name for name in _THREAD_VARIABLES[:2] if name not in environment]
        if unset:
            yield Cause(
                kind="quota_ignored",
                text=f"the CPU quota is {machine.quota_cpus:g}, but TensorFlow starts one thread "
                f"for each of the {machine.affinity_cpus} CPUs in the affinity",
                advice=" ".join(["export", *(f"{name}={machine.usable_cpus}" for name in unset)])
                + " (autotune finds the best values)",
            )


def _from_threads(
    environment: Mapping[str, str], machine: Machine, build: Build
) -> Iterator[Cause]:
    for name in _THREAD_VARIABLES:
        text = environment.get(name, "")
        if not text:
            continue
        if name.startswith("TF_NUM_") and text.startswith("-"):
            yield Cause(
                kind="aborts",
                text=f"{name}={text}: TensorFlow aborts at the first op with a negative number",
                advice=f"unset {name}",
            )
        elif text.isdecimal() and int(text) > machine.usable_cpus:
            yield Cause(
                kind="oversubscribed",
                text=f"{name}={text}, but there are {machine.usable_cpus} usable CPUs",
                advice=f"export {name}={machine.usable_cpus}, or unset it",
            )
        elif name == "OMP_NUM_THREADS" and build.openmp is None:
            yield Cause(
                kind="inert",
                text=f"OMP_NUM_THREADS={text} is set, perhaps by a scheduler: this TensorFlow has "
                f"no OpenMP runtime and ignores it; numpy's BLAS does not",
                advice="set TF_NUM_INTRAOP_THREADS instead if TensorFlow was meant",
            )
        else:
            yield Cause(
                kind="set",
                text=f"{name}={text} is in the environment",
                advice="autotune's trials do not see it; the exported files set it themselves",
            )


def _from_inert(environment: Mapping[str, str], build: Build) -> Iterator[Cause]:
    if build.openmp is not None:
        return
    for name in _INERT_ON_STOCK:
        if name in environment and name not in _THREAD_VARIABLES:
            yield Cause(
                kind="inert",
                text=f"{name}={environment[name]} is set, but this TensorFlow never reads it",
                advice=f"unset {name}: it has no effect",
            )


def _from_onednn(environment: Mapping[str, str], build: Build) -> Iterator[Cause]:
    if build.package.startswith("intel"):
        return  # always on there, unless another variable switches it off
    if "TF_ENABLE_ONEDNN_OPTS" not in environment:
        state = "on" if build.onednn_default else "off"
        yield Cause(
            kind="onednn_unset",
            text=f"TF_ENABLE_ONEDNN_OPTS is unset: oneDNN is {state} here, and may not be on "
            f"another CPU model",
            advice="set it to 0 or 1 in deployment; which is faster depends on the threads",
        )


def _from_devices(dev: Path) -> Iterator[Cause]:
    gpus = [*dev.glob("nvidia[0-9]*"), *dev.glob("kfd")]
    if gpus:
        yield Cause(
            kind="gpu",
            text=f"there is a GPU ({gpus[0]}): autotune does not tune ops on it",
            advice="CPU knobs still matter for its input: map_parallelism, prefetch_depth, "
            "data_threads, inter_op; hide it (CUDA_VISIBLE_DEVICES=) to tune the CPU alone",
        )
