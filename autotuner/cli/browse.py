"""``autotune export``, ``show`` and ``list``: reading studies."""

import os
import shlex
import sys
from pathlib import Path

from autotuner.cli.terminal import out_console
from autotuner.errors import UserError, did_you_mean
from autotuner.export.content import export_of
from autotuner.export.formats import RENDERERS, Format
from autotuner.plain import plain
from autotuner.report.sections import sections
from autotuner.report.tables import studies_table
from autotuner.report.terminal import EVERYTHING, OVERVIEW, print_sections
from autotuner.study.bulk import count_trials, read_trials
from autotuner.study.folders import HOME
from autotuner.study.memory import FACTS, SUMMARY, Memory
from autotuner.study.queue_store import visible
from autotuner.study.storage import default_url, open_storage, shown_url, sqlite_file
from autotuner.study.studies import foreign, load_facts, load_study
from autotuner.verdict.result import Result, load_result
from autotuner.verdict.sentences import brief

_NOTHING = "nothing measured yet"


def storage_name(storage_url: str | None) -> str:
    """Return the name of a storage in the markers of folders, however its URL is written.

    That of a SQLite file is relative to ``.autotune``, so that copies of both belong together; that
    of a server is its URL without a password.
    """
    url = storage_url or default_url(HOME)
    file = sqlite_file(url)
    return shown_url(url) if file is None else os.path.relpath(file.resolve(), HOME.resolve())


def open_result(study: str, storage_url: str | None) -> Result:
    """Return a study's result.

    Raises:
        UserError: if there is no such study, or its defaults have not been measured.
    """
    storage = open_storage(storage_url or default_url(HOME), create=False)
    opened = load_study(storage, study)
    load_facts(opened)
    result = load_result(opened, read_trials(storage, opened))
    if result is None:
        hint = f"resume it: autotune run --study {shlex.quote(study)}"
        raise UserError(f'study "{study}": the defaults were not measured yet', hint=hint)
    return result


def export_study(
    study: str, *, kind: str, output: Path | None, storage_url: str | None, export_anyway: bool
) -> None:
    """Write a study's configuration in one format."""
    known = [one.value for one in Format]
    if kind not in known:
        raise UserError(f'--format: unknown format "{kind}"', hint=did_you_mean(kind, known))
    result = open_result(study, storage_url)
    text = RENDERERS[Format(kind)](export_of(result, anyway=export_anyway))
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {output}: can't be written: {error.strerror}") from error


def show_study(study: str, *, storage_url: str | None, verbose: bool) -> None:
    """Print a study's result and its trials.

    Args:
        study: its name.
        storage_url: of its storage.
        verbose: print everything that the report shows.
    """
    result = open_result(study, storage_url)
    console = out_console()
    console.print(f"study {plain(result.study)}\n", markup=False, style="bold")
    view = EVERYTHING if verbose else OVERVIEW
    print_sections(console, sections(result, draw=False), view)


def list_all(*, storage_url: str | None) -> None:
    """Print all studies of a storage."""
    storage = open_storage(storage_url or default_url(HOME), create=False)
    rows, counts = [], count_trials(storage)
    for name in visible(counts):
        trials = counts[name]
        model = "-"
        study = load_study(storage, name)
        memory = Memory(study)
        facts, noted = memory.read(FACTS), memory.read(SUMMARY)
        if facts is None:
            summary = foreign(study) or _NOTHING
        else:
            model = Path(facts.identity.model).name
            if noted is not None and noted.trials == trials:  # no trials since it was stored
                summary = noted.text
            else:
                result = load_result(study, read_trials(storage, study))
                summary = _NOTHING if result is None else brief(result.decision)
        rows.append((name, trials, model, summary))
    console = out_console()
    console.print(studies_table(rows) if rows else "there are no studies yet: autotune run")
