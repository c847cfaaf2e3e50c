"""``autotune export``, ``show`` and ``list``: reading studies."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from autotuner.cli.terminal import out_console
from autotuner.errors import UserError, did_you_mean
from autotuner.export.formats import RENDERERS, Format
from autotuner.report.contents import Contents, gather
from autotuner.report.tables import result_table, studies_table, trials_table
from autotuner.report.wording import (
    disturbance_text,
    drift_text,
    noise_lines,
    notice_text,
    own_text,
)
from autotuner.statistics.sequential import rule_of
from autotuner.study.bulk import count_trials, read_trials
from autotuner.study.queue_store import visible
from autotuner.study.record import read_study_facts, read_summary
from autotuner.study.storage import default_url, open_storage, shown_url
from autotuner.study.studies import load_facts, load_study
from autotuner.verdict.sentences import brief, further_sentences

HOME = Path(".autotune")


def storage_name(storage_url: str | None) -> str:
    """Return what tells a storage from others in the claims of folders, without a password."""
    return shown_url(storage_url) if storage_url else "studies.db"


def remarks(contents: Contents) -> Iterator[str]:
    """Yield what is to be said besides the result in one sentence."""
    decision, records = contents.decision, contents.records
    if decision.own is not None:
        yield own_text(decision.own)
    yield from further_sentences(decision, contents.export.payback)
    noise = contents.noise
    said = [drift_text(records), None if noise is None else disturbance_text(records, noise)]
    yield from (text for text in said if text is not None)


def open_contents(study: str, storage_url: str | None, *, export_anyway: bool = False) -> Contents:
    """Return what there is to say of a study.

    Raises:
        UserError: if there is no such study, or its defaults have not been measured.
    """
    storage = open_storage(storage_url or default_url(HOME), create=False)
    opened = load_study(storage, study)
    load_facts(opened)
    contents = gather(opened, read_trials(storage, opened), export_anyway=export_anyway)
    if contents is None:
        hint = f"go on with it: autotune run --study {shlex.quote(study)}"
        raise UserError(f'study "{study}": the defaults were not measured yet', hint=hint)
    return contents


def export_study(
    study: str, *, kind: str, output: Path | None, storage_url: str | None, export_anyway: bool
) -> None:
    """Write a study's recommended configuration in one format."""
    if kind not in [known.value for known in Format]:
        hint = did_you_mean(kind, [known.value for known in Format])
        raise UserError(f'--format: unknown format "{kind}"', hint=hint)
    contents = open_contents(study, storage_url, export_anyway=export_anyway)
    text = RENDERERS[Format(kind)](contents.export)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: can't be written: {error.strerror}") from error


def show_study(study: str, *, storage_url: str | None) -> None:
    """Print a study's result and its trials."""
    contents = open_contents(study, storage_url)
    export, facts = contents.export, contents.facts
    console = out_console()
    identity = facts.identity
    console.print(f"study {export.study}: {identity.model}", markup=False, soft_wrap=True)
    console.print(f"machine: {identity.machine}", markup=False, soft_wrap=True)
    console.print(
        f"versions: TensorFlow {facts.build.tensorflow}, keras {facts.build.keras or '-'}, "
        f"Python {facts.build.python}",
        markup=False,
    )
    console.print(f"a step is: {facts.source} {facts.phase}\n", markup=False)
    console.print(result_table(contents.decision, facts))
    console.print(f"\n{export.sentence}", markup=False, soft_wrap=True)
    for line in remarks(contents):
        console.print(line, markup=False, soft_wrap=True)
    if contents.noise is not None:
        for line in noise_lines(contents.noise, rule_of(contents.spec)):
            console.print(line, markup=False, soft_wrap=True)
    console.print()
    for notice in export.notices:
        console.print(f"note: {notice_text(notice)}", markup=False, soft_wrap=True)
    console.print(trials_table(contents.records, facts))


def list_all(*, storage_url: str | None) -> None:
    """Print all studies of a storage."""
    storage = open_storage(storage_url or default_url(HOME), create=False)
    rows, counts = [], count_trials(storage)
    for name in visible(counts):
        trials = counts[name]
        result, model = "nothing measured yet", "-"
        study = load_study(storage, name)
        facts = read_study_facts(study)
        if facts is not None:
            model = Path(facts.identity.model).name
            result = _result(storage, study, trials)
        rows.append((name, trials, model, result))
    console = out_console()
    console.print(studies_table(rows) if rows else "there are no studies yet: autotune run")


def _result(storage: BaseStorage, study: optuna.Study, trials: int) -> str:
    """Return a study's result, as it was noted down if there have been no trials since."""
    noted = read_summary(study)
    if noted is not None and noted[1] == trials:
        return noted[0]
    contents = gather(study, read_trials(storage, study))
    return "nothing measured yet" if contents is None else brief(contents.decision)
