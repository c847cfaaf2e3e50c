"""``autotune verify`` and ``autotune compare``: two configurations in new pairs of processes."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from autotuner.cli.assembly import open_display, open_passing_session, run_folder
from autotuner.cli.resolve import Flags, apply_flags, base_spec, find_interpreter
from autotuner.errors import UserError
from autotuner.export.exported import (
    Exported,
    build_differences,
    machine_differences,
    read_exported,
)
from autotuner.knobs.knob import Build
from autotuner.machine.host import Machine, inspect_machine
from autotuner.machine.lock import hold_machine
from autotuner.options.study_spec import Objective, StudySpec
from autotuner.plain import plain
from autotuner.report.progress import Display, JsonProgress
from autotuner.stages.loop import repeat
from autotuner.stages.once import once
from autotuner.stages.prepare import DEFAULTS, NOISE_CHECK
from autotuner.stages.versus import Versus
from autotuner.statistics.sequential import Finding, Verdict, rule_of
from autotuner.study.events import FactsKnown, NoiseKnown
from autotuner.study.target import Target
from autotuner.trial.probe import probe
from autotuner.trial.runner import ProcessRunner
from autotuner.verdict.sentences import evidence_text, finding_text, ratio_text, what_it_takes


def verify_file(
    path: Path, flags: Flags, *, fail_under: float | None, wait: bool, as_json: bool
) -> bool:
    """Carry out ``autotune verify``; return whether the speed-up is not below ``fail_under``.

    Raises:
        UserError: for an error that the user can correct.
    """
    if fail_under is not None and fail_under <= 0:
        raise UserError(f"--fail-under {fail_under:g}: must be above 0", hint="1.05 is 5 % faster")
    exported = read_exported(path, inspect_machine())
    finding = _measure([exported], flags, threshold=fail_under, wait=wait, as_json=as_json)
    if fail_under is None:
        return True
    passed = finding.ratio >= fail_under
    if not as_json:
        word = "at least" if passed else "below"
        print_line(f"{ratio_text(finding.ratio)} is {word} the required {fail_under:g}")
    return passed


def compare_files(first: Path, second: Path, flags: Flags, *, wait: bool, as_json: bool) -> None:
    """Carry out ``autotune compare``.

    Raises:
        UserError: for an error that the user can correct.
    """
    machine = inspect_machine()
    sides = [read_exported(path, machine) for path in (first, second)]
    _measure(sides, flags, threshold=None, wait=wait, as_json=as_json)


def print_line(text: str) -> None:
    """Print a line on standard output."""
    Console(highlight=False, soft_wrap=True).print(plain(text), markup=False)


def _measure(
    sides: Sequence[Exported],
    flags: Flags,
    *,
    threshold: float | None,
    wait: bool,
    as_json: bool,
) -> Finding:
    """Compare a configuration with the second one, or with the defaults, and print the result."""
    spec = _spec(flags, sides)
    python = find_interpreter(spec.python)
    rule = rule_of(spec)
    machine = inspect_machine()
    folder = run_folder("versus")
    runner = ProcessRunner(dict(os.environ))
    stage = Versus(
        configuration=sides[0].configuration,
        against=sides[1].configuration if len(sides) > 1 else {},
        rule=rule,
        threshold=threshold,
    )
    with (
        open_display(rule, as_json=as_json) as display,
        hold_machine(f"{sides[0].path} (verify)", wait=wait, report=display.remark),
    ):
        build = probe(spec, python=python, folder=folder / "probe", runner=runner)
        for line in _warnings(sides, machine, build):
            display.remark(f"note: {line}")
        target = Target(spec=spec, machine=machine, build=build, python=python, folder=folder)
        with open_passing_session("versus", target, runner, display) as session:
            session.on_event(FactsKnown(once(session, DEFAULTS)))
            session.on_event(NoiseKnown(once(session, NOISE_CHECK)))
            repeat(session, stage, lambda known: _show_so_far(display, stage.finding(known)))
            known = session.known()
        failure, finding = stage.failure(known), stage.finding(known)
        problem = stage.problem(known)
        if problem and finding is not None and not failure:
            display.remark(f"note: {problem}")
    if finding is None or failure:
        raise UserError(f"there is no comparison: {problem}", hint=f"logs are in {folder}")
    _print_result(finding, sides, spec, as_json=as_json)
    return finding


def _spec(flags: Flags, sides: Sequence[Exported]) -> StudySpec:
    """Return the specification: the script from the flags, the knobs from the files."""
    base = base_spec(flags)
    if base is None:
        raise UserError("nothing to run", hint="give --model SCRIPT or --workload NAME")
    spec = apply_flags(base, flags)
    if spec.plan.most_pairs < 1:
        raise UserError("--pairs 0: without pairs there is no result", hint="at least 4")
    knobs = tuple(dict.fromkeys(name for side in sides for name in side.configuration))
    # one trial: the defaults, which define the step; there is no search
    return dataclasses.replace(
        spec,
        trials=1,
        budget_s=None,
        knobs=knobs,
        phase=spec.phase or sides[0].phase,
        objective=Objective(sides[0].objective),
    )


def _warnings(sides: Sequence[Exported], machine: Machine, build: Build) -> Iterator[str]:
    for side in sides:
        if side.holds_default:
            yield f"{side.path} holds TensorFlow's defaults, as nothing was proven to be faster"
        found = machine_differences(side, machine)
        if found:
            yield f"{side.path} was made on another machine: {'; '.join(found)}"
        # the OpenMP runtime is known only after TensorFlow has run an op
        found = build_differences(side, dataclasses.replace(build, openmp=_openmp(side)))
        if found:
            yield f"{side.path} was made with another TensorFlow: {'; '.join(found)}"


def _openmp(side: Exported) -> str | None:
    return None if side.build is None else side.build.openmp


def _show_so_far(display: Display, finding: Finding | None) -> None:
    if finding is not None:
        display.remark(f"after {finding.pairs} pairs: {ratio_text(finding.ratio)}")


def _print_result(
    finding: Finding, sides: Sequence[Exported], spec: StudySpec, *, as_json: bool
) -> None:
    if as_json:
        JsonProgress().finding(finding, [str(side.path) for side in sides])
        return
    if len(sides) > 1:
        first, second = (side.path for side in sides)
        text = (
            f"{finding.verdict.value}: {first} is {ratio_text(finding.ratio)} as fast as {second} "
            f"({evidence_text(finding)})"
        )
    else:
        text = finding_text(finding, spec.objective, spec.margin)
    if finding.verdict is Verdict.INCONCLUSIVE:
        text += f"; {what_it_takes(finding, None)}"
    print_line(text)
