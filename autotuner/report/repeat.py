"""The commands that repeat a study."""

import dataclasses
import shlex

from autotuner.options.study_spec import StudySpec
from autotuner.options.table import to_argv


def repeat_commands(study: str, best: str, spec: StudySpec) -> list[str]:
    """Return the commands that resume a study, verify its result and start it again.

    The script's arguments and the values of its variables may hold secrets, and a report is made to
    be shown: both are left out.

    Args:
        study: name of the study.
        best: path of its ``best.json``.
        spec: how it was last run.
    """
    environment = tuple((variable, "...") for variable, _ in spec.environment)
    again = dataclasses.replace(spec, name=None, environment=environment)
    script = StudySpec(
        model=spec.model,
        python=spec.python,
        environment=environment,
        batch_size=spec.batch_size,
        shapes=spec.shapes,
    )
    count = len(spec.arguments)
    arguments = f" -- ...({count} arguments)" if count else ""
    verify = shlex.join(["autotune", "verify", best, *to_argv(script)])
    run = shlex.join(["autotune", "run", *to_argv(again)])
    return [
        f"autotune run --study {shlex.quote(study)}    # resume it",
        f"{verify}{arguments}    # verify the result, here and today",
        f"{run}{arguments}    # start again",
    ]
