"""The notes that explain a study and its trials in optuna-dashboard, as Markdown."""

from collections.abc import Iterator

from autotuner.report.markdown import block, escape, render_markdown, table
from autotuner.report.sections import Cell, Grid, sections
from autotuner.report.wording import gain_text, result_text, trial_text
from autotuner.study.facts import StudyFacts
from autotuner.study.record import Role, TrialRecord
from autotuner.verdict.result import Result

_COLUMNS = {
    "role": "why it was run: default, recipe, script, control, search, race or final",
    "status": "how it ended",
    "gain": "times the default's speed, over a reference that ran beside it; more is better",
    "gain_low, gain_high": "95 % interval of that, inside this process",
    "throughput": "as it was in this process; throughput_low, throughput_high: 95 % interval",
    "reference": "the score of that reference: the machine's drift",
    "step_ms_p50, _p95, _p99": "percentiles of step times, in ms",
    "cpu_s, cores_used": "CPU seconds of the script; the same per second",
    "others_cores": "CPUs that other processes used meanwhile: should be near 0",
    "peak_rss_mib": "greatest resident memory, in MiB",
    "pair": "number of the final pair",
}


def study_note(result: Result) -> str:
    """Return a study's note: its sections, and what the dashboard's columns are."""
    text = render_markdown(result.study, sections(result), brief=True)
    rows = tuple((Cell(text=name), Cell(text=what)) for name, what in _COLUMNS.items())
    columns = table(Grid(columns=("attribute", "what it is"), rows=rows))
    value = (
        f"A trial's value is in {escape(result.facts.score_unit)}: the default's score times the "
        f"trial's gain, so that drift is out of it. Its intermediate values are the throughputs of "
        f"its windows, and its files the log and the windows' raw counts."
    )
    return f"{text}\n## What the columns are\n\n{value}\n\n{columns}\n"


def trial_note(record: TrialRecord, facts: StudyFacts) -> str:
    """Return a trial's note: its role, its settings, its outcome, and how to repeat it."""
    return "\n\n".join(_trial_parts(record, facts)) + "\n"


def _trial_parts(record: TrialRecord, facts: StudyFacts) -> Iterator[str]:
    yield f"**{escape(trial_text(record))}**: {escape(result_text(record))}"
    if record.gain is not None and record.role is not Role.DEFAULT:
        yield f"{escape(gain_text(record))} the default beside it."
    default = facts.space.default
    rows = tuple(
        (Cell(text=name), Cell(text=str(value)), Cell(text=str(default.get(name, "-"))))
        for name, value in record.configuration.items()
        if default.get(name) != value
    )
    if rows:
        yield table(Grid(columns=("setting", "value", "default"), rows=rows))
    else:
        yield "Every setting is at its default."
    if record.last_lines:
        yield "The last lines of its output:"
        yield block("\n".join(record.last_lines))
    if record.folder:
        yield "Its files, and a script that repeats it:"
        yield block(f"sh {record.folder}/repro.sh", "sh")
