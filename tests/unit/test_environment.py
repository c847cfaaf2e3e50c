"""The environment of a trial: the user's, but for knobs, and the trial's own settings."""

from pathlib import Path

from autotuner.knobs.catalogue import MANAGED_VARIABLES
from autotuner.knobs.knob import Configuration
from autotuner.trial.environment import (
    PRELOAD,
    SECRETS,
    build_environment,
    ignored_variables,
    preloaded,
)
from autotuner.trial.request import TrialRequest


def request(configuration: Configuration, **environment: str) -> TrialRequest:
    return TrialRequest(
        script=Path("train.py"),
        python=Path("python"),
        working_directory=Path(),
        configuration=configuration,
        environment=tuple(environment.items()),
    )


def test_knobs_of_the_user_s_shell_are_left_out() -> None:
    """A scheduler exports OMP_NUM_THREADS: the default is then still TensorFlow's own."""
    base = {"PATH": "/bin", "OMP_NUM_THREADS": "17", "TF_NUM_INTRAOP_THREADS": "1"}
    assert build_environment(request({}), base) == {"PATH": "/bin"}
    assert ignored_variables(base) == {"OMP_NUM_THREADS": "17", "TF_NUM_INTRAOP_THREADS": "1"}
    assert ignored_variables({"PATH": "/bin"}) == {}


def test_every_knob_s_variable_is_left_out() -> None:
    base = dict.fromkeys(MANAGED_VARIABLES, "x")
    assert build_environment(request({}), base) == {}


def test_the_configuration_s_variables_are_set() -> None:
    """They win over the user's and over the study's."""
    built = build_environment(
        request({"inter_op": 2, "prefetch_depth": "4"}, TF_NUM_INTEROP_THREADS="9", DATA="/d"),
        {"TF_NUM_INTEROP_THREADS": "7", "HOME": "/h"},
    )
    assert built == {
        "HOME": "/h",
        "DATA": "/d",
        "TF_NUM_INTEROP_THREADS": "2",
        "AUTOTUNE_PREFETCH_DEPTH": "4",
    }


def test_scripts_get_no_secrets_of_ours() -> None:
    """A storage's URL may hold a password."""
    assert build_environment(request({}), dict.fromkeys(SECRETS, "secret")) == {}


def test_a_preload_keeps_those_that_are_there() -> None:
    """An allocator comes first, as the first library that has malloc wins."""
    setting = {PRELOAD: "/lib/jemalloc.so", "A": "1"}
    assert preloaded(setting, {PRELOAD: "/lib/trace.so"}) == {
        PRELOAD: "/lib/jemalloc.so:/lib/trace.so",
        "A": "1",
    }
    assert preloaded(setting, {}) == setting
    assert preloaded({}, {PRELOAD: "/lib/trace.so"}) == {}
    built = build_environment(
        request({"allocator": "/lib/jemalloc.so"}), {PRELOAD: "/lib/trace.so"}
    )
    assert built[PRELOAD] == "/lib/jemalloc.so:/lib/trace.so"
