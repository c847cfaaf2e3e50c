"""Short runs before a study: the probe of an interpreter, and the inspection of a script.

The probe checks that the script compiles and that TensorFlow can be imported. The inspection is an
ordinary trial of TensorFlow's defaults, except that oneDNN is on and prints its verbose lines
(``ONEDNN_VERBOSE=1``, documented by oneDNN), which are read from the script's output.
"""

import dataclasses
from collections import Counter
from pathlib import Path

from autotuner.errors import UserError
from autotuner.files import open_regular
from autotuner.knobs.knob import Build
from autotuner.knobs.liveness import Evidence, EvidenceScope
from autotuner.options.study_spec import StudySpec
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import Kind, TrialRequest, script_of
from autotuner.trial.runner import Runner

_TWO_OPS = Path(__file__).resolve().parents[1] / "child" / "drivers" / "two_ops.py"
_MOST_OUTPUT = 8 * 2**20
_VERBOSE = (("ONEDNN_VERBOSE", "1"),)
_SHORT = {"warmup_min_s": 0.1, "warmup_max_s": 0.5, "measure_s": 0.5}


def probe(spec: StudySpec, *, python: Path, folder: Path, runner: Runner) -> Build:
    """Return the TensorFlow build of an interpreter.

    Raises:
        UserError: if the script is not valid Python there, or TensorFlow can't be imported.
    """
    request = TrialRequest(
        kind=Kind.PROBE,
        script=script_of(spec),
        python=python,
        working_directory=Path.cwd(),
        environment=spec.environment,
        timing=spec.timing,
    )
    outcome = runner.run(request, folder)
    if outcome.status is not Status.MEASURED:
        raise _refusal(outcome, python)
    return outcome.facts.build


def _refusal(outcome: Outcome, python: Path) -> UserError:
    if outcome.status is Status.OVER_LIMIT:
        hint = "your script did not run yet: TensorFlow's import alone needs this much"
        return UserError(f"{python}: {outcome.reason}", hint=hint)
    if outcome.error_kind == "tensorflow":
        hint = "install it there (pip install tensorflow), or name another one by --python"
        return UserError(f"{python}: TensorFlow can't be imported: {outcome.reason}", hint=hint)
    if outcome.error_kind in ("syntax", "script"):
        return UserError(f"{outcome.reason}", hint=f"it was read by {python}")
    if outcome.error_kind == "not_started":
        return UserError(f"{python}: {outcome.reason}", hint="--python takes an interpreter's path")
    lines = "".join(f"\n    {line}" for line in outcome.last_lines)
    hint = f"it must be a Python 3.9 or newer that can import TensorFlow; log: {outcome.log}"
    return UserError(f"{python}: does not start: {outcome.reason}{lines}", hint=hint)


def inspect_script(request: TrialRequest, folder: Path, runner: Runner) -> tuple[Outcome, Evidence]:
    """Run a request's script briefly; return the outcome and the evidence for its knobs."""
    short = dataclasses.replace(
        request,
        inspect=True,
        configuration={"onednn": "1"},
        environment=(*request.environment, *_VERBOSE),
        timing=dataclasses.replace(request.timing, **_SHORT),
    )
    outcome = runner.run(short, folder)
    return outcome, read_evidence(outcome)


def inspect_build(python: Path, folder: Path, runner: Runner) -> tuple[Build, Evidence]:
    """Run two ops without a user's script to see what an interpreter's TensorFlow is built with.

    Raises:
        UserError: if TensorFlow can't be imported there, or the ops fail.
    """
    build = probe(StudySpec(model=_TWO_OPS), python=python, folder=folder / "probe", runner=runner)
    request = TrialRequest(script=_TWO_OPS, python=python, working_directory=Path.cwd())
    outcome, evidence = inspect_script(request, folder / "inspection", runner)
    if outcome.status is not Status.MEASURED:
        raise UserError(f"{python}: TensorFlow fails at its first ops: {outcome.reason}")
    openmp = next(iter(evidence.libraries.get("openmp", ())), None)
    return (
        dataclasses.replace(build, openmp=openmp),
        dataclasses.replace(evidence, scope=EvidenceScope.BUILD),
    )


def read_evidence(outcome: Outcome) -> Evidence:
    """Return the evidence of an inspection: the child's report and oneDNN's lines in its log."""
    try:
        with open_regular(outcome.log) as file:
            lines = read_onednn(file.read(_MOST_OUTPUT).decode(errors="replace"))
    except OSError:
        lines = OneDnnLines()
    return dataclasses.replace(
        outcome.facts.inspection or Evidence(),
        threads=outcome.facts.thread_pools,
        onednn_runtime=lines.runtime,
        onednn_isa=lines.isa,
        onednn_primitives=lines.primitives,
        seconds=outcome.elapsed_s,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneDnnLines:
    """The content of oneDNN's verbose lines. ``bf16``: a primitive may compute in bfloat16."""

    runtime: str | None = None
    isa: str | None = None
    primitives: dict[str, int] = dataclasses.field(default_factory=dict)
    bf16: bool = False


def read_onednn(text: str) -> OneDnnLines:
    """Read oneDNN's verbose lines (versions 2 and 3) from a script's output.

    They look like ``onednn_verbose,v1,info,cpu,runtime:threadpool,nthr:2`` and
    ``onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,...``; ``v1`` came in 3.3.
    """
    runtime = isa = None
    bf16 = False
    kinds: Counter[str] = Counter()
    for line in text.splitlines():
        _, mark, rest = line.partition("onednn_verbose,")
        if not mark:
            continue
        fields = rest.split(",")
        if fields[0] == "v1":
            del fields[0]
        if fields[:2] == ["info", "cpu"]:
            name, _, value = fields[2].partition(":")
            if name == "runtime":
                runtime = value
            elif name == "isa":
                isa = value
        elif "exec" in fields[:2] and "cpu" in fields[:4]:
            at = fields.index("cpu") + 1
            bf16 = bf16 or "fpmath:bf16" in rest
            if at < len(fields):
                kinds[fields[at]] += 1
    return OneDnnLines(runtime=runtime, isa=isa, primitives=dict(kinds), bf16=bf16)
