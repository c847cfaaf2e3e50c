"""The catalogue: domains, defaults, the recipe, and which knobs a study searches."""

import pytest

from autotuner.knobs.catalogue import (
    KNOBS,
    MANAGED_VARIABLES,
    as_environment,
    default_configuration,
    recipe_configuration,
)
from autotuner.knobs.knob import AS_WRITTEN, Group, Tier
from autotuner.knobs.selection import EVERYTHING, select_knobs
from tests.fakes import BUILD, machine


@pytest.mark.parametrize("cpus", [1, 2, 7, 64, 256])
def test_every_default_and_recipe_is_in_its_domain(cpus: int) -> None:
    """Without a quota the sampler can represent the defaults and the recipe on any machine."""
    here = machine(affinity=cpus, cores=max(1, cpus // 2))
    for configuration in (
        default_configuration(tuple(KNOBS), machine=here, build=BUILD),
        recipe_configuration(tuple(KNOBS), machine=here, build=BUILD),
    ):
        for name, value in configuration.items():
            assert value in KNOBS[name].domain(here), (name, value)


def test_a_quota_bounds_the_search_but_not_the_default() -> None:
    """TensorFlow's default ignores a quota; domains and recipe respect it."""
    here = machine(affinity=64, quota=4.0, cores=32)
    for name in ("intra_op", "inter_op", "omp_num_threads"):
        assert max(KNOBS[name].domain(here).values()) == 4
        assert KNOBS[name].default(here, BUILD) == 64
    recipe = recipe_configuration(tuple(KNOBS), machine=here, build=BUILD)
    assert (recipe["intra_op"], recipe["omp_num_threads"]) == (4, 4)


def test_a_name_means_one_thing() -> None:
    names = [*KNOBS, *(group.value for group in Group), *(tier.value for tier in Tier), EVERYTHING]
    assert len(set(names)) == len(names)
    assert select_knobs(["onednn"]) == ("onednn",)
    assert set(select_knobs(["kernels"])) == {"onednn", "onednn_isa", "onednn_keep_primitives"}


def test_the_recipe_uses_physical_cores() -> None:
    """Eight CPUs on four cores: four threads inside an op, one op at a time per socket."""
    recipe = recipe_configuration(tuple(KNOBS), machine=machine(8, cores=4), build=BUILD)
    assert (recipe["intra_op"], recipe["inter_op"], recipe["kmp_blocktime"]) == (4, 1, "1")


def test_autotune_is_always_a_value() -> None:
    """AUTOTUNE and the script's own choice are never excluded."""
    for name in ("map_parallelism", "prefetch_depth"):
        assert {"AUTOTUNE", AS_WRITTEN} <= set(KNOBS[name].domain(machine()).values())


def test_variables() -> None:
    """Each knob has its own variable, and a trial of the defaults has none of them."""
    variables = {knob.variable for knob in KNOBS.values()}
    assert len(variables) == len(KNOBS)
    # the user's preloads stay, after the trial's
    assert set(MANAGED_VARIABLES) == variables - {"LD_PRELOAD"} | {"TF_DISABLE_MKL"}
    assert as_environment({"intra_op": 3, "kmp_blocktime": "0"}) == {
        "TF_NUM_INTRAOP_THREADS": "3",
        "KMP_BLOCKTIME": "0",
    }


def test_onednn_is_told_to_both_builds() -> None:
    """The stock wheel reads one variable, Intel's builds another with the opposite meaning."""
    off = as_environment({"onednn": "0"})
    assert off == {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_DISABLE_MKL": "1"}
    on = as_environment({"onednn": "1"})
    assert on == {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_DISABLE_MKL": "0"}
