"""The probe: one short child that checks the interpreter and the script before a study is made."""

from pathlib import Path

from autotuner.errors import UserError
from autotuner.knobs.knob import Build
from autotuner.options.study_spec import StudySpec
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import Kind, TrialRequest, script_of
from autotuner.trial.runner import Runner


def probe(spec: StudySpec, *, python: Path, folder: Path, runner: Runner) -> Build:
    """Return what the interpreter's TensorFlow says of itself.

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
    facts = outcome.facts
    return Build(
        tensorflow=facts["tensorflow"],
        keras="",
        python=facts["python"],
        onednn_default=bool(facts["onednn"]),
        openmp=facts["openmp"],
        package=facts.get("package", ""),
    )


def _refusal(outcome: Outcome, python: Path) -> UserError:
    if outcome.status is Status.OVER_LIMIT:
        hint = "that is without your script: TensorFlow's import alone needs so much"
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
