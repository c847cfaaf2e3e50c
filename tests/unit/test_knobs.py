"""The catalogue: domains, defaults, the recipe, and which knobs a study searches."""

import dataclasses

import pytest

from autotuner.errors import UserError
from autotuner.knobs.catalogue import (
    KNOBS,
    MANAGED_VARIABLES,
    as_environment,
    default_configuration,
    recipe_configuration,
    select_knobs,
)
from autotuner.knobs.knob import AS_WRITTEN, Build
from tests.unit.test_machine import machine

BUILD = Build(tensorflow="2.21.0", keras="3", python="3.11.7", onednn_default=True, openmp=None)
INTEL = dataclasses.replace(BUILD, openmp="libiomp5.so")
GNU = dataclasses.replace(BUILD, openmp="libgomp.so.1")
STOCK = ("intra_op", "inter_op", "onednn")
DATA = ("map_parallelism", "prefetch_depth", "data_threads")


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
    """TensorFlow's default ignores a quota; what is searched and recommended does not."""
    here = machine(affinity=64, quota=4.0, cores=32)
    for name in ("intra_op", "inter_op", "omp_num_threads"):
        assert max(KNOBS[name].domain(here).values()) == 4
        assert KNOBS[name].default(here, BUILD) == 64
    recipe = recipe_configuration(tuple(KNOBS), machine=here, build=BUILD)
    assert (recipe["intra_op"], recipe["omp_num_threads"]) == (4, 4)


def test_the_recipe_uses_physical_cores() -> None:
    """Eight CPUs on four cores: four threads inside an op, one op at a time per socket."""
    recipe = recipe_configuration(tuple(KNOBS), machine=machine(8, cores=4), build=BUILD)
    assert (recipe["intra_op"], recipe["inter_op"], recipe["kmp_blocktime"]) == (4, 1, "1")


def test_autotune_is_always_a_value() -> None:
    """AUTOTUNE and the script's own choice are never excluded."""
    for name in ("map_parallelism", "prefetch_depth"):
        assert {"AUTOTUNE", AS_WRITTEN} <= set(KNOBS[name].domain(machine()).values())


@pytest.mark.parametrize(
    ("names", "build", "datasets", "expected"),
    [
        ((), BUILD, False, STOCK),
        ((), BUILD, True, ("intra_op", "inter_op", *DATA, "onednn")),
        (
            (),
            INTEL,
            False,
            (*STOCK, "omp_num_threads", "mkl_num_threads", "kmp_blocktime", "kmp_affinity"),
        ),
        ((), GNU, False, (*STOCK, "omp_num_threads")),
        (("kmp_blocktime",), BUILD, False, ("kmp_blocktime",)),
        (("onednn", "threads"), BUILD, True, STOCK),
        (("data",), BUILD, False, DATA),
    ],
)
def test_which_knobs_are_searched(
    names: tuple[str, ...], build: Build, datasets: bool, expected: tuple[str, ...]
) -> None:
    """By default those that can act here; what is named is searched in any case."""
    assert select_knobs(names, build=build, uses_datasets=datasets) == expected


def test_an_unknown_knob_gets_a_suggestion() -> None:
    """A near miss is corrected."""
    with pytest.raises(UserError) as caught:
        select_knobs(("intra_opp",), build=BUILD, uses_datasets=False)
    assert caught.value.hint == 'did you mean "intra_op"?'


def test_variables() -> None:
    """Each knob has a variable of its own, and all are kept out of the default's environment."""
    assert len(set(MANAGED_VARIABLES)) == len(KNOBS)
    assert as_environment({"intra_op": 3, "kmp_blocktime": "0"}) == {
        "TF_NUM_INTRAOP_THREADS": "3",
        "KMP_BLOCKTIME": "0",
    }
