"""``autotune doctor``: the machine, its problems, which knobs can act, the bottleneck of a step."""

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

from autotuner.cli.assembly import open_display, open_passing_session
from autotuner.cli.resolve import Flags, apply_flags, base_spec, find_interpreter
from autotuner.cli.terminal import out_console
from autotuner.knobs.advice import find_advice
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Build
from autotuner.knobs.liveness import Evidence, Liveness, find_liveness
from autotuner.machine.conditions import Cause, find_causes, read_counters
from autotuner.machine.host import Machine, inspect_machine
from autotuner.machine.lock import hold_machine
from autotuner.options.study_spec import Effort, StudySpec
from autotuner.plain import plain
from autotuner.report.doctor import (
    advice_lines,
    build_line,
    liveness_grid,
    machine_lines,
    next_step,
)
from autotuner.report.terminal import print_grid, print_paragraph
from autotuner.stages.once import once
from autotuner.stages.prepare import BOTTLENECK, DEFAULTS, NOISE_CHECK
from autotuner.statistics.sequential import rule_of
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.events import DiagnosisKnown, FactsKnown, NoiseKnown
from autotuner.study.target import Target
from autotuner.trial.probe import inspect_build, probe
from autotuner.trial.runner import ProcessRunner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """All findings of the doctor. ``probe_s``: the duration of the short run, in seconds."""

    machine: Machine
    python: str
    build: Build
    probe_s: float
    evidence: Evidence
    liveness: tuple[Liveness, ...]
    diagnosis: Diagnosis | None
    advice: tuple[Cause, ...]


def examine(flags: Flags, *, as_json: bool, wait: bool) -> None:
    """Carry out ``autotune doctor``.

    Raises:
        UserError: if the interpreter or the script does not run.
    """
    environment = dict(os.environ)
    machine, before = inspect_machine(), read_counters()
    base = base_spec(flags)
    with tempfile.TemporaryDirectory(prefix="autotune-doctor-") as name:
        folder = Path(name)
        if base is None:
            python = find_interpreter(flags.python)
            build, evidence = inspect_build(python, folder, ProcessRunner(environment))
            diagnosis = None
        else:
            spec = dataclasses.replace(apply_flags(base, flags), effort=Effort.FAST, trials=2)
            python = find_interpreter(spec.python)
            build, evidence, diagnosis = _examine_script(
                spec, python, machine, folder, environment, wait=wait
            )
    findings = Findings(
        machine=machine,
        python=str(python),
        build=build,
        probe_s=evidence.seconds,
        evidence=evidence,
        liveness=find_liveness(KNOBS, evidence, machine),
        diagnosis=diagnosis,
        advice=(
            *find_advice(environment, machine, build),
            *find_causes(machine, before, read_counters(), others_cores=None),
        ),
    )
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(findings), indent=2) + "\n")
    else:
        _show(findings, with_script=base is not None)


def _examine_script(
    spec: StudySpec,
    python: Path,
    machine: Machine,
    folder: Path,
    environment: dict[str, str],
    *,
    wait: bool,
) -> tuple[Build, Evidence, Diagnosis]:
    """Inspect a script, and compare its defaults with themselves on replaced input."""
    runner = ProcessRunner(environment)
    with (
        open_display(rule_of(spec), as_json=False) as display,
        hold_machine(f"doctor {spec.model.name}", wait=wait, report=display.remark),
    ):
        build = probe(spec, python=python, folder=folder / "probe", runner=runner)
        target = Target(spec=spec, machine=machine, build=build, python=python, folder=folder)
        with open_passing_session("doctor", target, runner, display) as session:
            facts = once(session, DEFAULTS)
            session.on_event(FactsKnown(facts))
            session.on_event(NoiseKnown(once(session, NOISE_CHECK)))
            diagnosis = once(session, BOTTLENECK)
            session.on_event(DiagnosisKnown(diagnosis))
            return facts.build, facts.evidence, diagnosis


def _show(findings: Findings, *, with_script: bool) -> None:
    console = out_console(soft_wrap=True)

    def heading(text: str) -> None:
        console.print(f"\n[bold]{text}[/bold]")

    heading("machine")
    for text in machine_lines(findings.machine):
        print_paragraph(console, text)
    heading("interpreter")
    print_paragraph(console, build_line(findings.build, findings.python))
    of = "the script" if with_script else "two ops, without a script (--model SCRIPT shows more)"
    heading("knobs")
    print_paragraph(console, f"seen in a short run of {of}, {findings.probe_s:.1f} s")
    print_grid(console, liveness_grid(findings.liveness))
    if findings.diagnosis is not None:
        heading("bottleneck")
        print_paragraph(console, findings.diagnosis.sentence)
    heading("what to do")
    for text in advice_lines(findings.advice):
        console.print(plain(text), markup=False)
    console.print(next_step(with_script=with_script), markup=False)
