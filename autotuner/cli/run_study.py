"""``autotune run``: the stages of a study, one after the other."""

import contextlib
import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from rich.console import Console

from autotuner.cli.browse import HOME, storage_name
from autotuner.cli.report import write_page
from autotuner.cli.resolve import Flags, apply_flags, base_spec, find_interpreter
from autotuner.cli.terminal import out_console
from autotuner.errors import ScriptFailedError, UserError
from autotuner.export.content import Export, export_of
from autotuner.export.formats import render_json, write_files
from autotuner.machine.host import inspect_machine
from autotuner.machine.lock import hold_machine
from autotuner.options.duration import format_duration
from autotuner.options.study_spec import StudySpec, Warm
from autotuner.report.dashboard_pages import DashboardPages
from autotuner.report.progress import JsonProgress, Progress, make_progress
from autotuner.report.sections import sections
from autotuner.report.terminal import RUN_END, print_sections
from autotuner.statistics.sequential import StoppingRule, rule_of
from autotuner.statistics.throughput import less_is_better
from autotuner.study.artifacts import ArtifactStore, artifact_store, keep_study_files
from autotuner.study.events import Listeners
from autotuner.study.identity import claim_folder, identify
from autotuner.study.import_trials import Source, check_source, import_trials
from autotuner.study.preparation import run_first_trials
from autotuner.study.record import Origin, read_origin, read_study_facts, write_origin
from autotuner.study.samplers import check_sampler
from autotuner.study.search import run_search
from autotuner.study.settings import read_spec, write_spec
from autotuner.study.sittings import begin_sitting, finish_sitting
from autotuner.study.storage import default_url, is_shared, open_storage, shown_url
from autotuner.study.studies import create_study, is_idle, load_study, matching_name, reusable_name
from autotuner.study.tuner import Setting, Tuner, Turn
from autotuner.study.workers import Workers
from autotuner.trial.confinement import UNCONFINED, Confinement, check_confinement
from autotuner.trial.environment import ignored_variables
from autotuner.trial.probe import probe
from autotuner.trial.request import needed_by_trials
from autotuner.trial.runner import ProcessRunner
from autotuner.verdict.final import decision_of, run_final
from autotuner.verdict.race import run_race
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
        UserError: for whatever the user can mend.
    """
    environment = dict(os.environ)  # as it is now: libraries we use may change ours later
    check_confinement(confinement)
    spec = base_spec(flags)
    if spec is not None:
        spec = apply_flags(spec, flags)
    elif flags.study is None:
        raise UserError(
            "nothing to tune", hint="give --model SCRIPT, --workload NAME or STUDY.TOML"
        )
    if spec is not None:
        find_interpreter(spec.python)
    # a study that is only named must be there already
    storage = open_storage(storage_url or default_url(HOME), create=spec is not None)
    spec, name = _settle(spec, flags, storage)
    spec = suited_to(confinement, spec)
    check_sampler(spec.sampler)
    python = find_interpreter(spec.python)
    folder = claim_folder(HOME, name, storage_name(storage_url))
    confinement.check_place(folder, needed_by_trials(spec, python))
    machine = inspect_machine()
    rule = rule_of(spec)
    shared = is_shared(storage)
    with (
        open_display(rule, as_json=as_json) as display,
        ProcessRunner(environment, confinement=confinement) as runner,
        contextlib.ExitStack() as stack,
    ):
        turn = stack.enter_context(measuring(name, display, shared=shared, wait=wait))
        for variable, value in ignored_variables(environment).items():
            display.say(f"note: trials do not see {variable}={value} from your environment")
        display.say(f"study {name}: {spec.model.name} on {machine.describe()}")
        build = probe(spec, python=python, folder=folder / "probe", runner=runner)
        identity = identify(spec, machine, build)
        name, changes = matching_name(storage, name, identity, spec.knobs)
        if changes:
            _say_what_changed(changes, name, display)
            folder = claim_folder(HOME, name, storage_name(storage_url))
        source = None
        if import_from is not None:
            source = check_source(load_study(storage, import_from), spec.objective)
        study = _open(storage, name, spec)
        if read_origin(study) is None:
            write_origin(study, Origin(identity=identity, machine=machine, build=build))
        workers = Workers(study, shared=shared, machine=machine.host, heard=display.say)
        stack.enter_context(workers)
        spent_s = _begin(study, spec, display)
        pages = DashboardPages(study, storage)
        setting = Setting(
            study=study,
            storage=storage,
            spec=spec,
            machine=machine,
            build=build,
            python=python,
            folder=folder,
            runner=runner,
            listener=Listeners([display, pages]),
            artifacts=artifacts_of(display),
            spent_s=spent_s,
            workers=workers,
            turn=turn,
        )
        with Tuner(setting) as tuner:
            _tune(tuner, study, storage, display, source)
    result = load_result(study)
    if result is not None:
        export = export_of(result, anyway=export_anyway)
        paths = write_files(folder, export)
        page = write_page(result, folder, anyway=export_anyway)
        pages.refresh()
        finish_sitting(study)
        if setting.artifacts is not None:
            keep_study_files(setting.artifacts, study, paths)
        _finish(export, paths, page, storage_url, as_json=as_json)


def suited_to(confinement: Confinement, spec: StudySpec) -> StudySpec:
    """Return a specification without warm parents where scripts run as another user.

    A forked trial's warden would be that user's as well, so that a script could stop it.
    """
    return spec if confinement.user is None else dataclasses.replace(spec, warm=Warm.OFF)


@contextlib.contextmanager
def measuring(name: str, display: Progress, *, shared: bool, wait: bool) -> Iterator[Turn]:
    """Let no other tuning run measure on this machine at the same time.

    A study that nobody else can reach has the machine to itself until it ends. The workers of one
    that others can reach take turns, trial by trial, with what else tunes here.

    Args:
        name: the study's.
        display: says for whom we wait.
        shared: others can reach the study.
        wait: wait for another run to end, instead of raising.

    Raises:
        UserError: if another run holds the machine, and is not to be waited for.
    """
    with hold_machine(name, wait=wait, say=display.say):
        if not shared:
            yield contextlib.nullcontext
            return
    yield functools.partial(hold_machine, name, wait=True, say=lambda text: None)


def _say_what_changed(changes: Sequence[str], name: str, display: Progress) -> None:
    display.say("note: the study of that name was made of something else:")
    for line in changes:
        display.say(f"    {line}")
    display.say(f'    so this is study "{name}"; --import-trials STUDY lets it learn from another')


def _begin(study: optuna.Study, spec: StudySpec, display: Progress) -> float:
    """Note that a run begins; return what it has used of its budget before it was cut off."""
    before = read_spec(study)
    spent_s = begin_sitting(study, anew=before is None or before.budget_s != spec.budget_s)
    if spent_s and spec.budget_s is not None:
        display.say(f"going on: {format_duration(spent_s)} of the budget are used")
    write_spec(study, spec)
    return spent_s


def artifacts_of(display: Progress) -> ArtifactStore | None:
    """Return where trials' files are kept; without it a study runs as well."""
    try:
        return artifact_store(HOME)
    except OSError as error:
        display.say(f"note: the dashboard will not have the trials' files: {error}")
        return None


def _settle(spec: StudySpec | None, flags: Flags, storage: BaseStorage) -> tuple[StudySpec, str]:
    """Return the specification and the name of the study, made or to be made."""
    names = optuna.get_all_study_names(storage)
    if spec is None:
        assert flags.study is not None
        return apply_flags(_stored_spec(storage, flags.study), flags), flags.study
    if flags.study is not None:
        if flags.study in names:
            spec = _resumed(spec, _stored_spec(storage, flags.study))
        return spec, flags.study
    return spec, reusable_name(storage, spec.name or _default_name(spec))


def _stored_spec(storage: BaseStorage, name: str) -> StudySpec:
    """Return the specification in a study, which only studies made by autotune have."""
    stored = read_spec(load_study(storage, name))
    if stored is None:
        hint = "give --study another name: autotune does not touch other studies"
        raise UserError(f'study "{name}" was not made by autotune', hint=hint)
    return stored


def _resumed(spec: StudySpec, stored: StudySpec) -> StudySpec:
    """Return the specification for going on with a study: its knobs, where no others are named."""
    return dataclasses.replace(spec, knobs=spec.knobs or stored.knobs, name=stored.name)


def _default_name(spec: StudySpec) -> str:
    return spec.model.stem


def _open(storage: BaseStorage, name: str, spec: StudySpec) -> optuna.Study:
    names = optuna.get_all_study_names(storage)
    if name in names and _is_useless(load_study(storage, name), spec):
        optuna.delete_study(study_name=name, storage=storage)
        names.remove(name)
    if name not in names:
        study = create_study(storage, name, spec.objective)
        write_spec(study, spec)  # at once: it is what tells our studies from others
        return study
    study = load_study(storage, name)
    if not is_idle(study):
        hint = "wait for it, or give --study another name; autotune worker joins it"
        raise UserError(f'study "{name}" is being run by another autotune', hint=hint)
    return study


def _is_useless(study: optuna.Study, spec: StudySpec) -> bool:
    """Tell whether a study of ours has nothing in it and was made for another direction."""
    ours_and_empty = read_spec(study) is not None and read_study_facts(study) is None
    less = study.direction is optuna.study.StudyDirection.MINIMIZE
    return ours_and_empty and is_idle(study) and less != less_is_better(spec.objective)


@contextlib.contextmanager
def open_display(rule: StoppingRule, *, as_json: bool) -> Iterator[Progress]:
    """Show progress while the context lasts."""
    console = Console(stderr=True, highlight=False)
    display = make_progress(as_json=as_json, console=console, rule=rule)
    try:
        yield display
    finally:
        display.close()


def _tune(
    tuner: Tuner,
    study: optuna.Study,
    storage: BaseStorage,
    display: Progress,
    source: Source | None,
) -> None:
    swept = tuner.sweep()
    if swept:
        display.say(f"note: {swept} unfinished trial(s) of a run that died are marked as failed")
    try:
        run_first_trials(tuner)
        if source is not None:
            display.say(import_trials(study, tuner.facts, source))
        run_search(tuner)
        run_race(tuner)
        run_final(tuner, study)
    except ScriptFailedError:
        if read_study_facts(study) is None:
            optuna.delete_study(study_name=study.study_name, storage=storage)
        raise
    except StorageInternalError:
        raise
    except BaseException:
        _say_what_is_kept(tuner, study, display)
        raise


def _say_what_is_kept(tuner: Tuner, study: optuna.Study, display: Progress) -> None:
    name = study.study_name
    if read_study_facts(study) is None:
        display.say("stopped before the defaults were measured; run it again to start anew")
        return
    decision = decision_of(study, tuner.facts)
    if decision is not None:
        ratio = ratio_text(decision.best.gain)
        display.say(f"stopped. Best so far: {ratio} the default (not confirmed)")
    display.say(f"everything is kept; go on with: autotune run --study {shlex.quote(name)}")


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
