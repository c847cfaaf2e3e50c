"""The inspection: one short run of the user's script that shows which knobs can act on it.

The run is an ordinary trial of TensorFlow's defaults, but for oneDNN being on and its verbose mode
(``ONEDNN_VERBOSE=1``, documented by oneDNN), whose lines are read from the script's output.
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

from autotuner.errors import UserError
from autotuner.knobs.knob import Build
from autotuner.knobs.liveness import Evidence, EvidenceScope, evidence_from
from autotuner.options.study_spec import StudySpec
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.probe import probe
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import Runner

_TWO_OPS = Path(__file__).resolve().parents[1] / "child" / "drivers" / "two_ops.py"
_MOST_OUTPUT = 8 * 2**20
_VERBOSE = (("ONEDNN_VERBOSE", "1"),)
_SHORT = {"warmup_min_s": 0.1, "warmup_max_s": 0.5, "measure_s": 0.5}


def inspect_script(request: TrialRequest, folder: Path, runner: Runner) -> tuple[Outcome, Evidence]:
    """Run the script of a request for a moment and return how it ended and what was seen."""
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
    """Run two ops of our own, to see what an interpreter's TensorFlow is built with.

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
    """Return what an inspection has shown."""
    found: dict[str, Any] = outcome.facts.get("inspection") or {}
    try:
        with outcome.log.open(errors="replace") as file:
            said = read_onednn(file.read(_MOST_OUTPUT))
    except OSError:
        said = OneDnnLines()
    return evidence_from(
        {
            **found,
            "threads": outcome.facts.get("thread_pools", {}),
            "onednn_runtime": said.runtime,
            "onednn_isa": said.isa,
            "onednn_primitives": said.primitives,
            "seconds": outcome.elapsed_s,
        }
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneDnnLines:
    """What oneDNN's verbose lines say. ``bf16``: a primitive may compute in bfloat16."""

    runtime: str | None = None
    isa: str | None = None
    primitives: dict[str, int] = dataclasses.field(default_factory=dict)
    bf16: bool = False


def read_onednn(text: str) -> OneDnnLines:
    """Read oneDNN's verbose lines, of versions 2 and 3, out of a script's output.

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
