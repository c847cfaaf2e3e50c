"""The visible causes of noise on a machine, and what to do about them.

Counters are read at the start and the end of an interval; everything else is read once.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import psutil

from autotuner.machine.host import Machine, read_cpu_throttling

_PROC, _SYS = Path("/proc"), Path("/sys")
_DISTURBING_CORES = 0.2
_STOLEN_PART = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cause:
    """A reason for noisy or low numbers here. ``kind`` is a name for programs."""

    kind: str
    text: str
    advice: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counters:
    """Monotonic counters: throttled periods of the CPU quota, seconds stolen by the host."""

    throttled: int
    stolen_s: float
    total_s: float


def read_counters() -> Counters:
    """Return the counters' current values."""
    times = psutil.cpu_times()
    return Counters(
        throttled=read_cpu_throttling(),
        stolen_s=float(getattr(times, "steal", 0.0)),
        total_s=float(sum(times)),
    )


def find_causes(
    machine: Machine,
    before: Counters,
    after: Counters,
    *,
    others_cores: float | None,
    proc: Path = _PROC,
    sys: Path = _SYS,
) -> list[Cause]:
    """Return the visible causes of a machine's noise.

    Args:
        machine: this machine.
        before: counters at the start of the interval.
        after: counters at its end.
        others_cores: CPUs that processes other than the trials used meanwhile.
        proc: the path of /proc.
        sys: the path of /sys.
    """
    return [
        *_from_load(before, after, others_cores),
        *_from_quota(machine, before, after),
        *_from_frequency(sys),
        *_from_power(sys),
        *_from_cpu(machine, proc),
    ]


def _from_load(before: Counters, after: Counters, others_cores: float | None) -> Iterator[Cause]:
    if others_cores is not None and others_cores >= _DISTURBING_CORES:
        yield Cause(
            kind="load",
            text=f"other processes used {others_cores:.1f} CPUs meanwhile",
            advice="stop them, or tune when the machine is idle (see top)",
        )
    total = after.total_s - before.total_s
    if total > 0 and (after.stolen_s - before.stolen_s) / total >= _STOLEN_PART:
        part = (after.stolen_s - before.stolen_s) / total
        yield Cause(
            kind="steal",
            text=f"the host took {part:.0%} of this virtual machine's CPU time for others",
            advice="use a dedicated or larger instance for tuning",
        )


def _from_quota(machine: Machine, before: Counters, after: Counters) -> Iterator[Cause]:
    periods = after.throttled - before.throttled
    if periods > 0:
        yield Cause(
            kind="quota",
            text=f"the CPU quota stopped the processes in {periods} periods (cpu.stat)",
            advice="fewer threads avoid that, and the search tries them; "
            "for steadier numbers raise the limit to whole CPUs",
        )
    if machine.affinity_cpus <= 1:  # under a quota of one CPU, threads do matter
        yield Cause(
            kind="few_cores",
            text="there is only one CPU, so thread counts hardly matter",
            advice="tune on a machine with as many CPUs as in deployment",
        )


def _from_frequency(sys: Path) -> Iterator[Cause]:
    file = sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor"
    try:
        governor = file.read_text(encoding="ascii").strip()
    except OSError:
        return
    if governor != "performance":
        yield Cause(
            kind="governor",
            text=f"the CPU frequency governor is {governor}: clock speeds vary",
            advice="sudo cpupower frequency-set -g performance",
        )


def _from_power(sys: Path) -> Iterator[Cause]:
    for supply in sorted(sys.glob("class/power_supply/BAT*/status")):
        try:
            status = supply.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if status == "Discharging":
            yield Cause(
                kind="battery",
                text="the machine runs on battery, which slows the CPU",
                advice="plug it in",
            )
            return


def _from_cpu(machine: Machine, proc: Path) -> Iterator[Cause]:
    try:
        text = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    if flags and "avx2" not in flags.split():
        yield Cause(
            kind="no_avx",
            text="this CPU has no AVX2, which the fast code of TensorFlow and oneDNN needs",
            advice="check the virtual machine's CPU type; results hold for CPUs like this one only",
        )
