"""Short texts about trials and configurations, shared by the live progress and the sections."""

from collections.abc import Collection, Iterable, Sequence

from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Configuration, Tier
from autotuner.knobs.liveness import KnobState, Liveness
from autotuner.statistics.sequential import FIRST_LOOK, StoppingRule, detectable
from autotuner.statistics.throughput import Throughput
from autotuner.study.noise import DISTURBING_CORES, Method, Noise
from autotuner.study.record import Role, TrialRecord
from autotuner.trial.outcome import Notice
from autotuner.verdict.decision import Candidate
from autotuner.verdict.sentences import ratio_text


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
    """Return the name of a role in tables."""
    return {
        Role.DEFAULT: "TensorFlow's defaults",
        Role.RECIPE: "vendor's recipe",
        Role.SCRIPT: "script's own settings",
        Role.CONTROL: "defaults again",
        Role.SEARCH: "search",
        Role.RACE: "race",
        Role.FINAL: "final pair",
        Role.IMPORTED: "imported",
    }[role]


def trial_text(record: TrialRecord) -> str:
    """Return a trial's role; in final pairs also which side it was."""
    if record.role is not Role.FINAL:
        return role_text(record.role)
    return "final pair, best" if record.configuration else "final pair, defaults"


def result_text(record: TrialRecord) -> str:
    """Return a trial's outcome in one line: its throughput, and its gain over the defaults."""
    if record.gain is None or record.throughput is None:
        return f"{record.status.value if record.status else 'not finished'}: {record.reason}"
    parts = [throughput_text(record.throughput)]
    if record.role is not Role.DEFAULT and not _is_reference(record):
        parts.append(gain_text(record))
    if record.abandoned:
        parts.append("(ended early: clearly slower)")
    if record.others_cores is not None and record.others_cores >= DISTURBING_CORES:
        parts.append(f"(other processes used {record.others_cores:.1f} CPUs meanwhile)")
    return "  ".join(parts)


def outcome_text(record: TrialRecord) -> str:
    """Return how a trial ended, without its numbers."""
    status = "not finished" if record.status is None else record.status.value
    if record.gain is None:
        return f"{status}: {record.reason}" if record.reason else status
    return f"{status}, ended early" if record.abandoned else status


def _is_reference(record: TrialRecord) -> bool:
    return record.role is Role.FINAL and not record.configuration


def gain_text(record: TrialRecord) -> str:
    """Return a trial's gain with its interval inside the process, such as 1.21x (1.18-1.25)."""
    if record.gain_low is None or record.gain_high is None:
        return f"{record.gain:.2f}x"
    return f"{record.gain:.2f}x ({record.gain_low:.2f}-{record.gain_high:.2f})"


def notice_text(notice: Notice) -> str:
    """Return a notice as the user reads it."""
    text = f"{notice.where}: {notice.text}" if notice.where else notice.text
    if notice.kind == "override":
        text += "; trials ignore it. Remove that line when you use the exported files"
    return text


def own_text(own: Candidate) -> str:
    """Return the result of the script's own settings."""
    return (
        f"the script with its own settings, as it is today, ran at {ratio_text(own.gain)} "
        f"the speed of TensorFlow's defaults in the search."
    )


def step_text(source: str, phase: str) -> str:
    """Return what a step is; the phase of a marked step is no news."""
    return source if phase in ("", source) else f"{source} {phase}"


def percent(deviation: float) -> str:
    """Return a small part as 1.9 %."""
    return f"{100 * deviation:.1f} %"


def noise_lines(noise: Noise, rule: StoppingRule) -> list[str]:
    """Return the result of the noise check, in sentences."""
    if noise.method is Method.DUEL:
        how = "in turns with a reference process (duels)"
    else:
        how = f"one after the other, not in duels: {noise.why}"
    lines = [f"noise check: {noise.processes} processes of the defaults, {how}"]
    if noise.processes > 1:
        compared = f" ({percent(noise.raw)} without turns)" if noise.method is Method.DUEL else ""
        inside = f", +-{percent(noise.inside)} inside one" if noise.inside is not None else ""
        line = f"noise floor: {percent(noise.between)} from process to process{compared}{inside}"
        if rule.most_pairs >= FIRST_LOOK:
            found = percent(detectable(noise.of_a_pair, rule))
            line += f"; a final of up to {rule.most_pairs} pairs finds a speed-up of about {found}"
        lines.append(line)
    lines += [f"warning: {cause.text}: {cause.advice}" for cause in noise.causes]
    return lines


def inert_lines(liveness: Iterable[Liveness], searched: Collection[str]) -> list[str]:
    """Return the safe knobs that can't act here and are not searched, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for one in liveness:
        safe = KNOBS[one.knob].tier is Tier.SAFE
        if safe and one.state is KnobState.INERT and one.knob not in searched:
            by_reason.setdefault(one.reason, []).append(one.knob)
    return [f"inert here: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def drift_text(records: Sequence[TrialRecord]) -> str | None:
    """Return how far the reference drifted over the study; None if that was little."""
    references = [r.reference for r in records if r.reference is not None]
    if len(references) < 3:
        return None
    low, high = min(references), max(references)
    if high / low < 1.1:
        return None
    return (
        f"drift: the defaults themselves ran at up to {high / low:.2f} times their slowest speed "
        f"during this study; a gain compares with the defaults of the same seconds, so drift does "
        f"not affect it"
    )


def disturbance_text(records: Sequence[TrialRecord], noise: Noise) -> str | None:
    """Return the trials during which other processes used the CPU; None if there were none."""
    disturbed = [r for r in records if noise.is_disturbed(r.others_cores)]
    if not disturbed:
        return None
    most = max(r.others_cores or 0.0 for r in disturbed)
    numbers = ", ".join(str(r.number) for r in disturbed[:12])
    more = f" and {len(disturbed) - 12} more" if len(disturbed) > 12 else ""
    return (
        f"disturbed: other processes used up to {most:.1f} CPUs during trial"
        f"{'s' if len(disturbed) > 1 else ''} {numbers}{more}"
    )
