"""Tables of studies for the terminal: the result, the trials, all studies."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from autotuner.report.lists import plain_table
from autotuner.report.wording import describe, number, result_text, role_text, trial_text
from autotuner.statistics.comparison import corrected
from autotuner.study.record import Role, StudyFacts, TrialRecord
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
