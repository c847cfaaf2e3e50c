"""``autotune run``: from what is asked for to the files that are deployed."""

import contextlib
import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage

from autotuner.cli.assembly import (
    artifacts_of,
    measuring,
    open_display,
    run_folder,
    suited_to,
)
from autotuner.cli.browse import HOME, storage_name
from autotuner.cli.report import write_page
from autotuner.cli.resolve import Flags, apply_flags, base_spec, find_interpreter
from autotuner.cli.terminal import out_console
from autotuner.errors import ScriptFailedError, UserError
from autotuner.export.content import Export, export_of
from autotuner.export.formats import render_json, write_files
from autotuner.knobs.knob import Build
from autotuner.machine.host import inspect_machine
from autotuner.options.duration import format_duration
from autotuner.options.study_spec import StudySpec
from autotuner.report.dashboard_pages import DashboardPages
from autotuner.report.progress import Display, JsonProgress
from autotuner.report.sections import sections
from autotuner.report.terminal import RUN_END, print_sections
from autotuner.stages.final import decide_on
from autotuner.stages.loop import tune
from autotuner.stages.session import Clock, Session, Store, open_session
from autotuner.statistics.sequential import rule_of
from autotuner.statistics.throughput import less_is_better
from autotuner.study.artifacts import keep_study_files
from autotuner.study.elapsed import begin_run, finish_run
from autotuner.study.events import to_all
from autotuner.study.facts import Origin, StudyFacts
from autotuner.study.identity import claim_folder, identify
from autotuner.study.import_trials import Source, check_source, import_trials
from autotuner.study.memory import FACTS, ORIGIN, SPEC, Memory
from autotuner.study.storage import default_url, is_shared, open_storage, shown_url
from autotuner.study.studies import create_study, is_idle, load_study, matching_name, reusable_name
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
        UserError: for whatever the user can correct.
    """
    environment = dict(os.environ)  # as it is now: libraries we use may change ours later
    check_confinement(confinement)
    spec, storage = _ask(flags, storage_url)
    spec = suited_to(confinement, spec)
    python, machine, shared = find_interpreter(spec.python), inspect_machine(), is_shared(storage)
    label = flags.study or spec.name or spec.model.stem
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
        display.say(f"study {name}: {spec.model.name} on {machine.describe()}")
        folder = claim_folder(HOME, name, storage_name(storage_url))
        confinement.check_place(folder, needed_by_trials(spec, python))
        source = None
        if import_from is not None:
            source = check_source(load_study(storage, import_from), spec.objective)
        study, spent_s = _open(storage, name, spec, display)
        memory = Memory(study)
        if memory.read(ORIGIN) is None:
            memory.write(ORIGIN, Origin(identity=identity, machine=machine, build=build))
        pages, artifacts = DashboardPages(study, storage), artifacts_of(display)
        with (
            Workers(study, shared=shared, machine=machine.host, remark=display.say) as workers,
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


def _ask(flags: Flags, storage_url: str | None) -> tuple[StudySpec, BaseStorage]:
    """Return what is asked for, and where its study is kept or will be.

    A study that is only named must be there already; one that is resumed keeps its knobs, where no
    others are named.
    """
    base = base_spec(flags)
    if base is None and flags.study is None:
        hint = "give --model SCRIPT, --workload NAME or STUDY.TOML"
        raise UserError("nothing to tune", hint=hint)
    spec = None if base is None else apply_flags(base, flags)
    if spec is not None:
        find_interpreter(spec.python)  # a wrong one leaves no database behind
    storage = open_storage(storage_url or default_url(HOME), create=spec is not None)
    if flags.study is None:
        assert spec is not None
        return spec, storage
    if spec is None:
        return apply_flags(_stored_spec(storage, flags.study), flags), storage
    if flags.study in optuna.get_all_study_names(storage):
        stored = _stored_spec(storage, flags.study)
        spec = dataclasses.replace(spec, knobs=spec.knobs or stored.knobs, name=stored.name)
    return spec, storage


def _stored_spec(storage: BaseStorage, name: str) -> StudySpec:
    """Return the specification in a study, which only studies made by autotune have."""
    stored = Memory(load_study(storage, name)).read(SPEC)
    if stored is None:
        hint = "give --study another name: autotune does not touch other studies"
        raise UserError(f'study "{name}" was not made by autotune', hint=hint)
    return stored


def _probe(spec: StudySpec, python: Path, runner: ProcessRunner, confinement: Confinement) -> Build:
    """Return what the interpreter's TensorFlow says of itself; the probe's log stays if it fails.

    The study has no name yet, and so no folder: what it is called depends on the probe.

    Raises:
        UserError: if the script is not valid Python there, or TensorFlow can't be imported.
    """
    folder = run_folder("probes")
    confinement.check_place(folder, needed_by_trials(spec, python))
    build = probe(spec, python=python, folder=folder, runner=runner)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # unless another run probes
    return build


def _show_ignored(environment: Mapping[str, str], display: Display) -> None:
    for variable, value in ignored_variables(environment).items():
        display.say(f"note: trials do not see {variable}={value} from your environment")


def _show_changes(changes: Sequence[str], name: str, display: Display) -> None:
    if changes:
        display.say("note: the study of that name was made of something else:")
        for line in changes:
            display.say(f"    {line}")
        display.say(
            f'    so this is study "{name}"; --import-trials STUDY lets it learn from another'
        )


def _open(
    storage: BaseStorage, name: str, spec: StudySpec, display: Display
) -> tuple[optuna.Study, float]:
    """Make a study or open it; return it, and what its run had spent before it was cut off."""
    names = optuna.get_all_study_names(storage)
    if name in names and _is_useless(load_study(storage, name), spec):
        optuna.delete_study(study_name=name, storage=storage)
        names.remove(name)
    if name not in names:
        study = create_study(storage, name, spec.objective)
    else:
        study = load_study(storage, name)
        if not is_idle(study):
            hint = "wait for it, or give --study another name; autotune worker joins it"
            raise UserError(f'study "{name}" is being run by another autotune', hint=hint)
    memory = Memory(study)
    before = memory.read(SPEC)
    memory.write(SPEC, spec)  # at once: it tells our studies from others
    spent_s = begin_run(study, memory, anew=before is None or before.budget_s != spec.budget_s)
    if spent_s and spec.budget_s is not None:
        display.say(f"resumed: {format_duration(spent_s)} of the budget are used")
    return study, spent_s


def _is_useless(study: optuna.Study, spec: StudySpec) -> bool:
    """Return whether a study of ours has nothing in it and was made for another direction."""
    memory = Memory(study)
    ours_and_empty = memory.read(SPEC) is not None and memory.read(FACTS) is None
    less = study.direction is optuna.study.StudyDirection.MINIMIZE
    return ours_and_empty and is_idle(study) and less != less_is_better(spec.objective)


def _tune(
    session: Session,
    study: optuna.Study,
    storage: BaseStorage,
    display: Display,
    source: Source | None,
) -> None:
    swept = session.trials.sweep()
    if swept:
        display.say(f"note: {swept} unfinished trial(s) of a run that died are marked as failed")

    def take_over(facts: StudyFacts) -> None:
        if source is not None:
            display.say(import_trials(session.trials, facts, source))

    try:
        tune(session, take_over)
    except ScriptFailedError:
        if session.memory.read(FACTS) is None:
            optuna.delete_study(study_name=study.study_name, storage=storage)
        raise
    except StorageInternalError:
        raise
    except BaseException:
        _show_what_is_kept(session, study.study_name, display)
        raise


def _show_what_is_kept(session: Session, name: str, display: Display) -> None:
    if session.memory.read(FACTS) is None:
        display.say("stopped before the defaults were measured; run it again to start anew")
        return
    decision = decide_on(session.known())
    if decision is not None:
        ratio = ratio_text(decision.best.gain)
        display.say(f"stopped. Best so far: {ratio} the default (not confirmed)")
    display.say(f"everything is kept; resume with: autotune run --study {shlex.quote(name)}")


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
    out_console(soft_wrap=True).print(
        f"shell:     source {shlex.quote(shown['.env'])}\n"
        f"python:    {shown['.py']}  (applies everything, tf.data too)\n"
        f"json:      {shown['.json']}\n"
        f"report:    {shlex.quote(os.path.relpath(page))}\n"
        f"trials:    autotune show {shlex.quote(export.result.study)}\n"
        f"browse:    autotune dashboard{option}",
        markup=False,
    )
    sys.stdout.flush()
