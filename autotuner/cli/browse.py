"""``autotune export``, ``show`` and ``list``: reading studies."""

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import optuna
from rich.console import Console

from autotuner import __version__
from autotuner.errors import UserError, did_you_mean
from autotuner.export.content import Export, notices_for
from autotuner.export.formats import RENDERERS, Format
from autotuner.report.progress import notice_text
from autotuner.report.tables import result_table, studies_table, trials_table
from autotuner.report.wording import disturbance_text, drift_text, noise_lines
from autotuner.study.opening import load_facts, load_study
from autotuner.study.record import StudyFacts, read_noise, read_records, read_study_facts
from autotuner.study.settings import read_spec
from autotuner.study.storage import default_url, open_storage
from autotuner.verdict.decision import Decision
from autotuner.verdict.final import decision_of
from autotuner.verdict.payback import time_spent_s
from autotuner.verdict.sentences import further_sentences, ratio_text
from autotuner.verdict.sequential import rule_of

HOME = Path(".autotune")


def make_export(study: optuna.Study, facts: StudyFacts, decision: Decision) -> Export:
    """Return what the files say, as of now."""
    return Export(
        study=study.study_name,
        created=datetime.now().astimezone(),
        version=__version__,
        facts=facts,
        decision=decision,
        notices=notices_for(
            decision.deployed.configuration, facts, read_records(study.get_trials(deepcopy=False))
        ),
        tuning_s=time_spent_s(study.get_trials(deepcopy=False)),
    )


def remarks(study: optuna.Study, facts: StudyFacts, export: Export) -> Iterator[str]:
    """Yield what is to be said besides the result in one sentence."""
    decision = export.decision
    records = read_records(study.get_trials(deepcopy=False))
    noise = read_noise(study)
    if decision.own is not None:
        yield (
            f"the script with its own settings, as it is today, ran at "
            f"{ratio_text(decision.own.gain)} TensorFlow's defaults in the search."
        )
    yield from further_sentences(decision, export.payback)
    said = [drift_text(records), None if noise is None else disturbance_text(records, noise)]
    yield from (text for text in said if text is not None)


def _open(
    study: str, storage_url: str | None, *, export_anyway: bool = False
) -> tuple[optuna.Study, StudyFacts, Decision]:
    storage = open_storage(storage_url or default_url(HOME), create=False)
    opened = load_study(storage, study)
    facts = load_facts(opened)
    decision = decision_of(opened, facts, export_anyway=export_anyway)
    if decision is None:
        hint = f"go on with it: autotune run --study {study}"
        raise UserError(f'study "{study}": the defaults were not measured yet', hint=hint)
    return opened, facts, decision


def export_study(
    study: str, *, kind: str, output: Path | None, storage_url: str | None, export_anyway: bool
) -> None:
    """Write a study's recommended configuration in one format."""
    if kind not in [known.value for known in Format]:
        hint = did_you_mean(kind, [known.value for known in Format])
        raise UserError(f'--format: unknown format "{kind}"', hint=hint)
    opened, facts, decision = _open(study, storage_url, export_anyway=export_anyway)
    text = RENDERERS[Format(kind)](make_export(opened, facts, decision))
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: can't be written: {error.strerror}") from error


def show_study(study: str, *, storage_url: str | None) -> None:
    """Print a study's result and its trials."""
    opened, facts, decision = _open(study, storage_url)
    console = Console(highlight=False)
    identity = facts.identity
    console.print(f"study {opened.study_name}: {identity.model}", markup=False, soft_wrap=True)
    console.print(f"machine: {identity.machine}", markup=False, soft_wrap=True)
    console.print(
        f"versions: TensorFlow {facts.build.tensorflow}, keras {facts.build.keras or '-'}, "
        f"Python {facts.build.python}",
        markup=False,
    )
    console.print(f"a step is: {facts.source} {facts.phase}\n", markup=False)
    console.print(result_table(decision, facts))
    export = make_export(opened, facts, decision)
    console.print(f"\n{export.sentence}", markup=False, soft_wrap=True)
    for line in remarks(opened, facts, export):
        console.print(line, markup=False, soft_wrap=True)
    noise, spec = read_noise(opened), read_spec(opened)
    if noise is not None and spec is not None:
        rule = rule_of(spec)
        for line in noise_lines(noise, rule):
            console.print(line, markup=False, soft_wrap=True)
    console.print()
    for notice in export.notices:
        console.print(f"note: {notice_text(notice)}", markup=False, soft_wrap=True)
    console.print(trials_table(read_records(opened.get_trials(deepcopy=False)), facts))


def list_all(*, storage_url: str | None) -> None:
    """Print all studies of a storage."""
    storage = open_storage(storage_url or default_url(HOME), create=False)
    rows = []
    for name in optuna.get_all_study_names(storage):
        study = load_study(storage, name)
        facts = read_study_facts(study)
        decision = None if facts is None else decision_of(study, facts)
        trials = len(read_records(study.get_trials(deepcopy=False)))
        model = "-" if facts is None else Path(facts.identity.model).name
        result = "nothing measured yet" if decision is None else _brief(decision)
        rows.append((name, trials, model, result))
    console = Console(highlight=False)
    console.print(studies_table(rows) if rows else "there are no studies yet: autotune run")


def _brief(decision: Decision) -> str:
    if decision.is_default:
        return "defaults"
    if decision.finding is None:
        return f"{ratio_text(decision.best.gain)}, not confirmed"
    kept = "" if decision.is_recommended else ", defaults kept"
    return f"{decision.verdict.value} {ratio_text(decision.finding.ratio)}{kept}"
