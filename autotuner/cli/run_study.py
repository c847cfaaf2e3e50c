"""``autotune run``: from the options to the files to deploy."""

import contextlib
import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from autotuner.cli.assembly import (
    artifacts_of,
    measuring,
    open_display,
    run_folder,
    suited_to,
)
from autotuner.cli.browse import storage_name
from autotuner.cli.report import write_page
from autotuner.cli.resolve import Flags, apply_flags, base_spec, find_interpreter
from autotuner.cli.terminal import out_console
from autotuner.errors import ScriptFailedError, UserError
from autotuner.export.content import Export, export_of
from autotuner.export.formats import render_json, write_files
from autotuner.knobs.knob import Build
from autotuner.machine.host import inspect_machine
from autotuner.options.duration import format_duration
from autotuner.options.names import name_from
from autotuner.options.study_spec import StudySpec
from autotuner.plain import plain
from autotuner.report.dashboard_pages import DashboardPages
from autotuner.report.progress import Display, JsonProgress
from autotuner.report.sections import sections
from autotuner.report.terminal import RUN_END, print_sections
from autotuner.stages.final import decide_on
from autotuner.stages.loop import tune
from autotuner.stages.session import Clock, Session, Store, open_session
from autotuner.statistics.sequential import rule_of
from autotuner.study.artifacts import keep_study_files
from autotuner.study.elapsed import finish_run
from autotuner.study.events import to_all
from autotuner.study.folders import HOME, claim_folder, make_folder
from autotuner.study.identity import identify
from autotuner.study.import_trials import Source, check_source, import_trials
from autotuner.study.memory import FACTS, ORIGIN, Memory
from autotuner.study.storage import (
    Storage,
    StorageError,
    default_url,
    is_shared,
    open_storage,
    shown_url,
)
from autotuner.study.studies import (
    Study,
    begin_study,
    load_study,
    matching_name,
    remove_study,
    reusable_name,
    stored_spec,
    study_names,
)
from autotuner.study.study_facts import Origin, StudyFacts
from autotuner.study.target import Target
from autotuner.study.workers import Workers
from autotuner.trial.confinement import UNCONFINED, Confinement, check_confinement
from autotuner.trial.environment import ignored_variables
from autotuner.trial.probe import probe
from autotuner.trial.request import needed_by_trials
from autotuner.trial.runner import ProcessRunner
from autotuner.verdict.result import load_result
from autotuner.verdict.sentences import ratio_text


def run_study(
    flags: Flags,
    *,
    storage_url: str | None,
    import_from: str | None,
    as_json: bool,
    wait: bool,
    export_anyway: bool,
    confinement: Confinement = UNCONFINED,
) -> None:
    """Carry out ``autotune run``.

    Raises:
        UserError: for an error that the user can correct.
    """
    environment = dict(os.environ)  # a copy: imported libraries may change the environment later
    check_confinement(confinement)
    spec, python, storage = _ask(flags, storage_url)
    spec = suited_to(confinement, spec)
    machine, shared = inspect_machine(), is_shared(storage)
    label = flags.study or spec.name or name_from(spec.model.stem)
    with (
        open_display(rule_of(spec), as_json=as_json) as display,
        ProcessRunner(environment, confinement=confinement) as runner,
        measuring(label, display, shared=shared, wait=wait) as turn,
    ):
        _show_ignored(environment, display)
        build = _probe(spec, python, runner, confinement)
        identity = identify(spec, machine, build)
        wanted = flags.study or reusable_name(storage, label)
        name, changes = matching_name(storage, wanted, identity, spec.knobs)
        _show_changes(changes, name, display)
        source = None
        if import_from is not None:
            source = check_source(load_study(storage, import_from), spec.objective)
        folder = claim_folder(HOME, name, storage_name(storage_url))
        display.remark(f"study {name}: {spec.model.name} on {machine.describe()}")
        confinement.check_place(folder, needed_by_trials(spec, python))
        study, spent_s = begin_study(storage, name, spec)
        if spent_s and spec.budget_s is not None:
            display.remark(f"resumed: {format_duration(spent_s)} of the budget are used")
        memory = Memory(study)
        if memory.read(ORIGIN) is None:
            memory.write(ORIGIN, Origin(identity=identity, machine=machine, build=build))
        pages, artifacts = DashboardPages(study, storage), artifacts_of(display)
        with (
            Workers(study, shared=shared, machine=machine.host, remark=display.remark) as workers,
            open_session(
                Target(spec=spec, machine=machine, build=build, python=python, folder=folder),
                Store(study=study, storage=storage, artifacts=artifacts),
                runner,
                to_all(display, pages),
                workers=workers,
                turn=turn,
                clock=Clock(spent_s=spent_s),
            ) as session,
        ):
            _tune(session, study, storage, display, source)
    result = load_result(study)
    if result is not None:
        export = export_of(result, anyway=export_anyway)
        paths = write_files(folder, export)
        page = write_page(result, folder, anyway=export_anyway)
        pages.refresh()
        finish_run(memory)
        if artifacts is not None:
            keep_study_files(artifacts, study, paths)
        _finish(export, paths, page, storage_url, as_json=as_json)


def _ask(flags: Flags, storage_url: str | None) -> tuple[StudySpec, Path, Storage]:
    """Return the requested specification, its interpreter, and the storage of its study.

    A study that is given only by name must exist. A resumed study keeps its knobs unless others are
    given. A wrong flag is reported before a database is made.
    """
    url = storage_url or default_url(HOME)
    base = base_spec(flags)
    if base is None:
        if flags.study is None:
            hint = "give --model SCRIPT, --workload NAME or STUDY.TOML"
            raise UserError("nothing to tune", hint=hint)
        storage = open_storage(url, create=False)
        spec = apply_flags(stored_spec(storage, flags.study), flags)
        return spec, find_interpreter(spec.python), storage
    spec = apply_flags(base, flags)
    python = find_interpreter(spec.python)
    storage = open_storage(url, create=True)
    if flags.study is not None and flags.study in study_names(storage):
        stored = stored_spec(storage, flags.study)
        spec = dataclasses.replace(spec, knobs=spec.knobs or stored.knobs, name=stored.name)
    return spec, python, storage


def _probe(spec: StudySpec, python: Path, runner: ProcessRunner, confinement: Confinement) -> Build:
    """Return the build of the interpreter's TensorFlow; if the probe fails, its log is kept.

    The study has no folder yet: its name depends on the probe.

    Raises:
        UserError: if the script is not valid Python there, or TensorFlow can't be imported.
    """
    folder = run_folder("probes")
    make_folder(folder)
    confinement.check_place(folder, needed_by_trials(spec, python))
    build = probe(spec, python=python, folder=folder, runner=runner)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # unless another run probes
    return build


def _show_ignored(environment: Mapping[str, str], display: Display) -> None:
    for variable, value in ignored_variables(environment).items():
        display.remark(f"note: trials do not see {variable}={value} from your environment")


def _show_changes(changes: Sequence[str], name: str, display: Display) -> None:
    if changes:
        display.remark("note: the study of that name has another script, machine or version:")
        for line in changes:
            display.remark(f"    {line}")
        display.remark(
            f'    so this is study "{name}"; --import-trials STUDY lets it learn from another'
        )


def _tune(
    session: Session,
    study: Study,
    storage: Storage,
    display: Display,
    source: Source | None,
) -> None:
    swept = session.trials.sweep()
    if swept:
        display.remark(f"note: {swept} unfinished trial(s) of a run that died are marked as failed")

    def take_over(facts: StudyFacts) -> None:
        if source is not None:
            display.remark(import_trials(session.trials, facts, source))

    try:
        tune(session, take_over)
    except ScriptFailedError:
        if session.memory.read(FACTS) is None:
            remove_study(storage, study.study_name)
        raise
    except StorageError:
        raise
    except BaseException:
        _show_what_is_kept(session, study.study_name, display)
        raise


def _show_what_is_kept(session: Session, name: str, display: Display) -> None:
    if session.memory.read(FACTS) is None:
        display.remark("stopped before the defaults were measured; run the same command again")
        return
    decision = decide_on(session.known())
    if decision is not None:
        ratio = ratio_text(decision.best.gain)
        display.remark(f"stopped. Best so far: {ratio} the default (not confirmed)")
    display.remark(f"everything is kept; resume with: autotune run --study {shlex.quote(name)}")


def _finish(
    export: Export, paths: list[Path], page: Path, storage_url: str | None, *, as_json: bool
) -> None:
    """Print the result, and where the files are."""
    if as_json:
        JsonProgress().result(render_json(export), [str(path) for path in (*paths, page)])
        return
    found = sections(export.result, anyway=export.holds_best, draw=False)
    print_sections(out_console(), found, RUN_END)
    shown = {path.suffix: os.path.relpath(path) for path in paths}
    option = f" --storage {shlex.quote(shown_url(storage_url))}" if storage_url else ""
    lines = (
        f"shell:     source {shlex.quote(shown['.env'])}",
        f"python:    {shlex.quote(shown['.py'])}  (applies everything, tf.data too)",
        f"json:      {shlex.quote(shown['.json'])}",
        f"report:    {shlex.quote(os.path.relpath(page))}",
        f"trials:    autotune show {shlex.quote(export.result.study)}",
        f"browse:    autotune dashboard{option}",
    )
    console = out_console(soft_wrap=True)
    for line in lines:
        console.print(plain(line), markup=False)
    sys.stdout.flush()
