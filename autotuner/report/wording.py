"""Short texts about trials and configurations, shared by all ways of showing them."""

from autotuner.knobs.knob import Configuration
from autotuner.statistics import Throughput
from autotuner.study.record import Role, TrialRecord

_DISTURBING_CORES = 0.3


def describe(configuration: Configuration, default: Configuration) -> str:
    """Return what differs from the default, such as ``intra_op=1 onednn=0``."""
    changed = [
        f"{name}={value}" for name, value in configuration.items() if default.get(name) != value
    ]
    return " ".join(changed) or "as the default"


def number(value: float) -> str:
    """Return a throughput with three or four significant digits: 12,345 or 41.8 or 0.512."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.1f}"


def throughput_text(throughput: Throughput) -> str:
    """Return a throughput with its unit."""
    return f"{number(throughput.value)} {throughput.unit.value}"


def role_text(role: Role) -> str:
    """Return what a role is called in tables."""
    return {
        Role.DEFAULT: "TensorFlow's defaults",
        Role.RECIPE: "vendor's recipe",
        Role.SCRIPT: "script's own settings",
        Role.SEARCH: "search",
        Role.FINAL: "final pair",
    }[role]


def trial_text(record: TrialRecord) -> str:
    """Return what a trial was for: its role, and in final pairs which side."""
    if record.role is not Role.FINAL:
        return role_text(record.role)
    return "final pair, best" if record.configuration else "final pair, defaults"


def result_text(record: TrialRecord, baseline: float | None) -> str:
    """Return how a trial ended, in one line."""
    if record.throughput is None:
        return f"{record.status.value if record.status else 'not finished'}: {record.reason}"
    # a final trial is compared with the other side of its pair, not with the first trial
    compared = baseline if record.role is not Role.FINAL else None
    ratio = f"  {record.throughput.value / compared:.2f}x" if compared else ""
    disturbed = ""
    if record.others_cores is not None and record.others_cores >= _DISTURBING_CORES:
        disturbed = f"  (other processes used {record.others_cores:.1f} CPUs meanwhile)"
    return f"{throughput_text(record.throughput)}{ratio}{disturbed}"
