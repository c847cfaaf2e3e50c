"""The checks of a specification that need the disk or the catalogue of knobs."""

import dataclasses

from autotuner.errors import UserError
from autotuner.knobs.catalogue import MANAGED_VARIABLES
from autotuner.knobs.selection import check_knob_names
from autotuner.options.study_spec import StudySpec, check_model, is_saved_model


def check_spec(spec: StudySpec) -> StudySpec:
    """Return a specification with the absolute path of its script.

    Raises:
        UserError: if there is no such script, or options do not go together or with the catalogue.
    """
    spec = dataclasses.replace(spec, model=check_model(spec.model))
    check_knob_names(spec.knobs)
    if is_saved_model(spec.model):
        if spec.arguments:
            raise UserError(f"{spec.model}: a saved model takes no arguments", hint="leave out --")
    elif spec.batch_size is not None or spec.shapes:
        hint = "pass them to the script after --, if it takes such arguments"
        raise UserError("--batch-size and --shape are for saved models, not scripts", hint=hint)
    for name, _ in spec.environment:
        if name in MANAGED_VARIABLES:
            hint = "remove it from the study's environment: it is searched"
            raise UserError(f"{name} is a knob", hint=hint)
    return spec
