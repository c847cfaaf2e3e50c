"""The environment of a trial: the user's, without any knob that the trial does not set."""

from collections.abc import Mapping

from autotuner.knobs.catalogue import MANAGED_VARIABLES, as_environment
from autotuner.trial.request import TrialRequest

PRELOAD = "LD_PRELOAD"
SECRETS = ("AUTOTUNE_STORAGE", "AUTOTUNE_TOKEN", "AUTOTUNE_DASHBOARD_TOKEN")
"""Our own variables that may hold a password or a token: not for scripts."""


def build_environment(request: TrialRequest, base: Mapping[str, str]) -> dict[str, str]:
    """Return the child's whole environment.

    Variables of knobs that stand in ``base`` (a scheduler exports OMP_NUM_THREADS, a shell has
    sourced an older ``best.env``) are left out, so that the default is TensorFlow's own.
    """
    dropped = {*MANAGED_VARIABLES, *SECRETS}
    kept = {name: value for name, value in base.items() if name not in dropped}
    own = {**kept, **dict(request.environment)}
    return {**own, **preloaded(as_environment(request.configuration), own)}


def preloaded(setting: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Return variables to set, with a library to preload put before those that are already."""
    found = dict(setting)
    if PRELOAD in found and base.get(PRELOAD):
        found[PRELOAD] = f"{found[PRELOAD]}:{base[PRELOAD]}"
    return found


def ignored_variables(base: Mapping[str, str]) -> dict[str, str]:
    """Return the knobs' variables that the user's environment sets and trials do not see."""
    return {name: base[name] for name in MANAGED_VARIABLES if name in base}
