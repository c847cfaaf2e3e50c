"""``autotune worker``: a further process that works on a study, on this or another machine."""

import dataclasses
import os
import shlex
import time
from collections.abc import Collection

from autotuner.cli.assembly import (
    artifacts_of,
    measuring,
    open_display,
    suited_to,
)
from autotuner.cli.browse import storage_name
from autotuner.cli.resolve import Flags, apply_flags, base_spec, find_interpreter
from autotuner.cli.terminal import out_console
from autotuner.errors import UserError
from autotuner.machine.host import Machine, inspect_machine
from autotuner.options.duration import parse_duration
from autotuner.options.study_spec import StudySpec
from autotuner.plain import plain
from autotuner.report.dashboard_pages import DashboardPages
from autotuner.report.progress import Display, JsonProgress
from autotuner.stages.loop import tune
from autotuner.stages.session import Clock, Store, open_session
from autotuner.statistics.sequential import rule_of
from autotuner.study.elapsed import spent_in_run_s
from autotuner.study.events import to_all
from autotuner.study.folders import HOME, claim_folder
from autotuner.study.identity import identify
from autotuner.study.joining import (
    build_differences,
    check_parts,
    identity_differences,
    machine_differences,
    space_problems,
)
from autotuner.study.memory import FACTS, ORIGIN, SPEC, Memory
from autotuner.study.storage import Storage, is_shared, open_storage, shown_url
from autotuner.study.studies import Study, load_study, study_names
from autotuner.study.study_facts import Origin, StudyFacts
from autotuner.study.target import Target
from autotuner.study.workers import Workers
from autotuner.trial.confinement import UNCONFINED, Confinement, check_confinement
from autotuner.trial.probe import probe
from autotuner.trial.request import needed_by_trials
from autotuner.trial.runner import ProcessRunner
from autotuner.verdict.sentences import sentence

_LOOK_AGAIN_S = 2.0
_GIVEN_UP = "its script failed with the defaults, or it was removed"


def work(
    flags: Flags,
    *,
    storage_url: str,
    machine_class: str | None,
    wait_for_study: str | None,
    as_json: bool,
    confinement: Confinement = UNCONFINED,
) -> None:
    """Carry out ``autotune worker``: work on a study until it has its verdict.

    Raises:
        UserError: if there is no such study, or this worker does not fit it.
    """
    environment = dict(os.environ)
    check_confinement(confinement)
    base = base_spec(flags)
    if base is None or flags.study is None:
        hint = "a worker brings its own copy of the script: --model SCRIPT --study NAME"
        raise UserError("nothing to work on", hint=hint)
    relaxed = check_parts([] if machine_class is None else machine_class.split(","))
    own = apply_flags(base, flags)
    python = find_interpreter(own.python)
    patience_s = parse_duration(wait_for_study, where="--wait-for-study") if wait_for_study else 0.0
    storage = open_storage(storage_url, create=False)
    if not is_shared(storage):
        hint = "use PostgreSQL (postgresql://...) or Optuna's proxy in front of it (grpc://...)"
        raise UserError(
            f"--storage {shown_url(storage_url)}: a file can't be worked on from several processes",
            hint=hint,
        )
    machine = inspect_machine()
    with (
        open_display(rule_of(own), as_json=as_json) as display,
        ProcessRunner(environment, confinement=confinement) as runner,
    ):
        study, stored, origin = _await_study(storage, flags.study, patience_s, display)
        spec = suited_to(confinement, _joined(stored, own))
        # a folder of its own, as other workers may use the same disk
        folder = claim_folder(HOME, flags.study, storage_name(storage_url))
        folder = folder / "workers" / f"{machine.host}-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        confinement.check_place(folder, needed_by_trials(spec, python))
        build = probe(spec, python=python, folder=folder / "probe", runner=runner)
        here = Origin(identity=identify(spec, machine, build), machine=machine, build=build)
        memory = Memory(study)
        _check_fit(study.study_name, memory, origin, here, relaxed)
        display.remark(f"joined study {flags.study}: {spec.model.name} on {machine.describe()}")
        pages = DashboardPages(study, storage, whole=False)
        with (
            measuring(flags.study, display, shared=True, wait=True) as turn,
            Workers(study, shared=True, machine=machine.host, remark=display.remark) as workers,
            open_session(
                Target(spec=spec, machine=machine, build=build, python=python, folder=folder),
                Store(study=study, storage=storage, artifacts=artifacts_of(display)),
                runner,
                to_all(display, pages),
                workers=workers,
                turn=turn,
                clock=Clock(spent_s=spent_in_run_s(study, memory)),
            ) as session,
        ):
            try:
                decision = tune(session, lambda facts: _check_space(facts, machine))
            except KeyError as error:  # Optuna's error for a study that does not exist
                if flags.study in study_names(storage):
                    raise
                raise UserError(f'study "{flags.study}" is gone', hint=_GIVEN_UP) from error
            objective = spec.objective
    if decision is None:
        return
    verdict = sentence(decision, objective)
    if as_json:
        JsonProgress().remark(verdict)
        return
    console = out_console(soft_wrap=True)
    console.print(plain(verdict), markup=False)
    where = f"--storage {shlex.quote(shown_url(storage_url))}"
    console.print(f"files:     autotune export {shlex.quote(flags.study)} {where}", markup=False)


def _await_study(
    storage: Storage, name: str, patience_s: float, display: Display
) -> tuple[Study, StudySpec, Origin]:
    """Return a study that ``autotune run`` has begun; wait for it for ``patience_s``."""
    until, waiting = time.monotonic() + patience_s, False
    while True:
        if time.monotonic() >= until or name in study_names(storage):
            study = load_study(storage, name)
            memory = Memory(study)
            stored, origin = memory.read(SPEC), memory.read(ORIGIN)
            if stored is not None and origin is not None:
                return study, stored, origin
        if time.monotonic() >= until:
            hint = "start it: autotune run --storage URL --study NAME --model SCRIPT"
            raise UserError(f'study "{name}": autotune run has not started it', hint=hint)
        if not waiting:
            display.remark(f"waiting for study {name} to start")
            waiting = True
        time.sleep(_LOOK_AGAIN_S)


def _joined(stored: StudySpec, own: StudySpec) -> StudySpec:
    """Return the study's specification with the worker's own script, interpreter and variables."""
    return dataclasses.replace(
        stored,
        model=own.model,
        arguments=own.arguments,
        python=own.python,
        environment=own.environment,
        batch_size=own.batch_size,
        shapes=own.shapes,
    )


def _check_fit(
    name: str, memory: Memory, origin: Origin, here: Origin, relaxed: Collection[str]
) -> None:
    """Raise UserError if trials here could not be compared with those of the study."""
    problems = [
        *identity_differences(origin.identity, here.identity),
        *build_differences(origin.build, here.build),
        *machine_differences(origin.machine, here.machine, relaxed),
    ]
    if problems:
        lines = "".join(f"\n    {problem}" for problem in problems)
        hint = (
            "--machine-class PART,PART allows a machine to differ in cpu, cores, quota, memory, isa"
        )
        raise UserError(f'this worker does not fit study "{name}":{lines}', hint=hint)
    facts = memory.read(FACTS)
    if facts is not None:
        _check_space(facts, here.machine)


def _check_space(facts: StudyFacts, machine: Machine) -> None:
    problems = list(space_problems(facts.space, machine))
    if problems:
        lines = "".join(f"\n    {problem}" for problem in problems)
        hint = "run it on machines that have the same allocators and CPUs, or leave these knobs out"
        raise UserError(f"this machine can't try what the study searches:{lines}", hint=hint)
