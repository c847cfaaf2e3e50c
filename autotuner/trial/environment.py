"""The environment of a trial: the user's, without knobs that the trial does not set."""

from collections.abc import Mapping

from autotuner.knobs.catalogue import MANAGED_VARIABLES, as_environment
from autotuner.trial.request import TrialRequest

PRELOAD = "LD_PRELOAD"
SECRETS = ("AUTOTUNE_STORAGE", "AUTOTUNE_TOKEN", "AUTOTUNE_DASHBOARD_TOKEN")
"""Variables of autotune that may hold a password or a token; scripts don't get them."""


def build_environment(request: TrialRequest, base: Mapping[str, str]) -> dict[str, str]:
    """Return the child's whole environment.

    Variables of knobs in ``base`` are left out, so that the default is TensorFlow's own: a
    scheduler may export OMP_NUM_THREADS, a shell may have sourced an older ``best.env``.
    """
    dropped = {*MANAGED_VARIABLES, *SECRETS}
    kept = {name: value for name, value in base.items() if name not in dropped}
    own = {**kept, **dict(request.environment)}
    return {**own, **preloaded(as_environment(request.configuration), own)}


def preloaded(variables: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Return variables to set; a library to preload goes before those already in ``base``."""
    found = dict(variables)
    if PRELOAD in found and base.get(PRELOAD):
        found[PRELOAD] = f"{found[PRELOAD]}:{base[PRELOAD]}"
    return found


def ignored_variables(base: Mapping[str, str]) -> dict[str, str]:
    """Return the knobs' variables in the user's environment, which trials do not see."""
    return {name: base[name] for name in MANAGED_VARIABLES if name in base}
