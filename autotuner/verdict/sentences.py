"""A decision in sentences, which the terminal, the exported files and the reports share."""

from collections.abc import Iterator

from autotuner.options.duration import format_duration
from autotuner.options.study_spec import Objective
from autotuner.statistics.machines import OnMachine
from autotuner.statistics.sequential import CONFIDENCE, FIRST_LOOK, Finding, Verdict
from autotuner.verdict.decision import Decision
from autotuner.verdict.payback import Payback

_COMPARED = {
    Objective.THROUGHPUT: "{ratio} the default's throughput",
    Objective.LATENCY_P50: "{ratio} as quick as the default in the median step time",
    Objective.LATENCY_P99: "{ratio} as quick as the default in the p99 of step times",
    Objective.CPU_EFFICIENCY: "{ratio} the default's samples per CPU second",
}


def ratio_text(ratio: float) -> str:
    """Return a ratio as 1.33x."""
    return f"{ratio:.2f}x"


def brief(decision: Decision) -> str:
    """Return the result in a few words, for lists."""
    if decision.is_default:
        return "defaults"
    if decision.finding is None:
        return f"{ratio_text(decision.best.gain)}, not confirmed"
    kept = "" if decision.is_recommended else ", defaults kept"
    return f"{decision.verdict.value} {ratio_text(decision.finding.ratio)}{kept}"


def evidence_text(finding: Finding) -> str:
    """Return the interval and the pairs behind a ratio."""
    pairs = f"{_pairs_text(finding.pairs)} of new processes"
    if finding.low is None or finding.high is None:
        return pairs
    interval = f"{CONFIDENCE:.0%} interval {finding.low:.2f}x to {finding.high:.2f}x"
    return f"{interval}, {pairs}"


def _pairs_text(pairs: int) -> str:
    return f"{pairs} pair{'s' if pairs != 1 else ''}"


def finding_text(finding: Finding, objective: Objective, margin: float) -> str:
    """Return a verdict with its numbers."""
    compared = _COMPARED[objective].format(ratio=ratio_text(finding.ratio))
    within = f", all within {margin:.0%} of the default" if _is_none(finding) else ""
    return f"{finding.verdict.value}: {compared} ({evidence_text(finding)}){within}"


def _on_machine_text(one: OnMachine) -> str:
    pairs = _pairs_text(one.pairs)
    if one.low is None or one.high is None:
        return f"{one.machine} {ratio_text(one.ratio)} ({pairs})"
    interval = f"95% interval {one.low:.2f}x to {one.high:.2f}x"
    return f"{one.machine} {ratio_text(one.ratio)} ({interval}, {pairs})"


def _is_none(finding: Finding) -> bool:
    return finding.verdict is Verdict.NO_DIFFERENCE


def what_it_takes(finding: Finding, pair_s: float | None) -> str:
    """Return how many more pairs would decide an inconclusive comparison, as text."""
    needed = finding.needed or FIRST_LOOK
    more = max(1, needed - finding.pairs)
    time = "" if pair_s is None else f", {format_duration(more * pair_s)}"
    if needed > 200:
        return f"it would take some {needed} pairs to decide: a quieter machine is needed"
    return f"about {more} more pair{'s' if more != 1 else ''} would decide{time}"


def sentence(decision: Decision, objective: Objective) -> str:
    """Return the result in one sentence, or two."""
    finding = decision.finding
    if decision.is_default and decision.configurations <= 1:
        return "only TensorFlow's defaults were measured, so there is nothing to compare."
    if decision.is_default:
        return "no configuration but the defaults could be measured. Keep the defaults."
    if decision.final_failures:
        return "the best of the search failed in a new process. Keep the defaults."
    if finding is None:
        return (
            f"{Verdict.INCONCLUSIVE.value}: the best of the search has not yet met the defaults in "
            f"undisturbed new processes. Keep the defaults, or resume the study."
        )
    verdict = finding_text(finding, objective, decision.margin)
    if decision.is_recommended:
        return f"{verdict}."
    if decision.is_faster:
        return f"{verdict}. It is refused, as results may change (--strict-numerics)."
    if decision.machines_disagree:
        return (
            f"{verdict}; but it is faster on some machines and slower on others: they are of "
            f"several kinds for this script. Keep the defaults, or tune each kind separately."
        )
    if finding.verdict is Verdict.INCONCLUSIVE:
        takes = what_it_takes(finding, decision.pair_s)
        return f"{verdict}; {takes}. Keep the defaults, or resume the study."
    return f"{verdict}. Keep the defaults."


def further_sentences(decision: Decision, payback: Payback | None) -> Iterator[str]:
    """Yield further sentences: machines, numerics, break-even, disturbed pairs."""
    if decision.machines:
        yield f"by machine: {'; '.join(map(_on_machine_text, decision.machines))}."
    if decision.numerics is not None:
        yield f"numerics: {decision.numerics.text}."
    if payback is not None and decision.is_recommended:
        yield (
            f"break-even: tuning took {format_duration(payback.tuning_s)}; it saves "
            f"{format_duration(payback.saved_per_hour_s)} of each hour with the defaults, "
            f"so the tuning time is regained after {format_duration(payback.break_even_s)}."
        )
    if decision.disturbed_pairs:
        pairs = _pairs_text(decision.disturbed_pairs)
        yield f"disturbed: other processes used the CPU during {pairs} of the final: not counted."
