"""Two studies' results side by side, as one section."""

from collections.abc import Iterator

from autotuner.options.duration import format_duration
from autotuner.plain import plain
from autotuner.report.sections import Cell, Grid, Section, made_plain
from autotuner.report.wording import number, percent
from autotuner.verdict.result import Result
from autotuner.verdict.sentences import ratio_text

_CAUTION = (
    "* differs. Each study's speed-up is over the defaults of its own run. To compare the two "
    "configurations directly: autotune compare A/best.json B/best.json --model ..."
)


def side_by_side(first: Result, second: Result) -> Section:
    """Return the facts of both in two columns, with an asterisk where they differ."""
    ours, theirs = dict(_facts(first)), dict(_facts(second))
    rows = []
    for name in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(name, "-"), theirs.get(name, "-")
        mark = "*" if one != other else ""
        rows.append(tuple(Cell(text=text) for text in (mark, name, one, other)))
    section = Section(
        name="side-by-side",
        title=f"{first.study} and {second.study}",
        grid=Grid(columns=("", "", plain(first.study), plain(second.study)), rows=tuple(rows)),
        lines=(_CAUTION,),
    )
    return made_plain(section)


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    """Yield the facts to compare, as (name, text)."""
    decision, facts, noise = result.decision, result.facts, result.noise
    finding = decision.finding
    yield "verdict", decision.verdict.value
    if finding is not None:
        interval = "" if finding.low is None else f" ({finding.low:.2f}-{finding.high:.2f})"
        yield "speed-up", f"{ratio_text(finding.ratio)}{interval}, {finding.pairs} pairs"
    yield "best of the search", ratio_text(decision.best.gain)
    yield f"defaults, {facts.score_unit}", number(facts.base)
    for name, value in decision.best.configuration.items():
        yield name, str(value)
    yield "knobs searched", ", ".join(facts.space.domains)
    yield "trials", str(len(result.records))
    yield "took", format_duration(result.tuning_s)
    if noise is not None:
        yield "noise floor", percent(noise.between)
    if result.diagnosis is not None:
        yield "bottleneck", result.diagnosis.bottleneck.value
    yield "objective", facts.objective.value
    yield "step", f"{facts.source} {facts.phase}".strip()
    yield "model", f"{facts.identity.model} ({facts.identity.model_sha256[:12]})"
    yield "machine", facts.identity.machine
    yield "TensorFlow", facts.build.tensorflow
    yield "keras", facts.build.keras or "-"
    yield "Python", facts.build.python
