"""Tables of studies for the terminal: the result, the trials, all studies."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from autotuner.options.duration import format_duration
from autotuner.report.contents import Contents
from autotuner.report.lists import plain_table
from autotuner.report.wording import describe, number, percent, result_text, role_text, trial_text
from autotuner.statistics.comparison import corrected
from autotuner.study.cleaning import Removable
from autotuner.study.facts import StudyFacts
from autotuner.study.record import Role, TrialRecord
from autotuner.verdict.decision import Candidate, Decision
from autotuner.verdict.sentences import ratio_text


def result_table(decision: Decision, facts: StudyFacts) -> Table:
    """Return default, recipe, the script's own settings and best, with what differs.

    Scores and gains are the search's estimates; "final" is from the final pairs.
    """
    columns = (facts.score_unit, "search", "final")
    table = plain_table("", *columns, "settings that differ", right=columns)

    def add(name: str, candidate: Candidate | None, final: str = "-") -> None:
        if candidate is None:
            return
        table.add_row(
            name,
            number(corrected(facts.base, candidate.gain, facts.objective)),
            ratio_text(candidate.gain),
            final,
            Text(describe(candidate.configuration, facts.space.default)),
        )

    add(role_text(Role.DEFAULT), decision.default)
    if facts.space.recipe != facts.space.default:
        add(role_text(Role.RECIPE), decision.recipe)
    add(role_text(Role.SCRIPT), decision.own)
    if not decision.is_default:
        finding = decision.finding
        add("best", decision.best, "-" if finding is None else ratio_text(finding.ratio))
    return table


def trials_table(records: Sequence[TrialRecord], facts: StudyFacts) -> Table:
    """Return all trials in their order."""
    table = plain_table("trial", "role", "result", "settings that differ", right=("trial",))
    for record in records:
        what = describe(record.configuration, facts.space.default) if record.configuration else ""
        table.add_row(
            str(record.number),
            trial_text(record),
            Text(result_text(record)),
            Text(what),
        )
    return table


def studies_table(rows: Sequence[tuple[str, int, str, str]]) -> Table:
    """Return studies as (name, trials, model, result)."""
    table = plain_table("study", "trials", "model", "result", right=("trials",))
    for name, trials, model, result in rows:
        table.add_row(Text(name), str(trials), Text(model), Text(result))
    return table


def removable_table(found: Sequence[Removable]) -> Table:
    """Return what can be removed, with sizes and ages."""
    right = ("trials", "size")
    table = plain_table("study", *right, "last used", "folder", right=right)
    for one in found:
        name = one.study or "(gone)"
        table.add_row(
            Text(f"{name}, running: stays" if one.running else name),
            str(one.trials),
            f"{one.size_bytes / 2**20:.1f} MiB",
            "-" if one.used is None else f"{one.used:%Y-%m-%d %H:%M}",
            Text("-" if one.folder is None else str(one.folder)),
        )
    return table


def side_by_side(first: Contents, second: Contents) -> Table:
    """Return two studies' facts in two columns; an asterisk where they differ."""
    table = plain_table("", "", first.export.study, second.export.study)
    theirs = dict(_facts(second))
    ours = dict(_facts(first))
    for name in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(name, "-"), theirs.get(name, "-")
        table.add_row("*" if one != other else "", Text(name), Text(one), Text(other))
    return table


def _facts(contents: Contents) -> Iterator[tuple[str, str]]:
    """Yield what is worth comparing, as (name, text)."""
    decision, facts, noise = contents.decision, contents.facts, contents.noise
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
    yield "trials", str(len(contents.records))
    yield "took", format_duration(contents.export.tuning_s)
    if noise is not None:
        yield "noise floor", percent(noise.between)
    if contents.diagnosis is not None:
        yield "bottleneck", contents.diagnosis.bottleneck.value
    yield "objective", facts.objective.value
    yield "step", f"{facts.source} {facts.phase}".strip()
    yield "model", f"{facts.identity.model} ({facts.identity.model_sha256[:12]})"
    yield "machine", facts.identity.machine
    yield "TensorFlow", facts.build.tensorflow
    yield "keras", facts.build.keras or "-"
    yield "Python", facts.build.python
