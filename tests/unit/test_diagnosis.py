"""The bottleneck from two ratios, and the configurations that are tried first for it."""

import pytest

from autotuner.knobs.catalogue import KNOBS, recipe_configuration
from autotuner.knobs.liveness import Evidence, Site
from autotuner.statistics.comparison import Comparison
from autotuner.study.candidates import first_candidates
from autotuner.study.diagnosis import Bottleneck, diagnose
from autotuner.study.space import Space, make_space
from tests.fakes import BUILD, machine


def faster(times: float) -> Comparison:
    """Return a comparison with this gain."""
    return Comparison(gain=times, low=None, high=None, rounds=5, reference=1.0)


def sites(*sites: Site) -> Evidence:
    """Return evidence with these sites."""
    return Evidence(sites=sites)


@pytest.mark.parametrize(
    ("cached", "single", "kind", "parts"),
    [
        (5.0, 10.0, Bottleneck.INPUT, (0.8, 0.1, 0.1)),
        (1.0, 10.0, Bottleneck.COMPUTE, (0.0, 0.1, 0.9)),
        (1.25, 1.25, Bottleneck.OVERHEAD, (0.2, 0.8, 0.0)),
        (0.9, 0.9, Bottleneck.OVERHEAD, (0.0, 1.0, 0.0)),  # noise: no part is below 0
        (2.0, 1.8, Bottleneck.INPUT, (0.5, 0.5, 0.0)),
    ],
)
def test_the_largest_part_is_the_bottleneck(
    cached: float, single: float, kind: Bottleneck, parts: tuple[float, float, float]
) -> None:
    """The parts add up to the step."""
    found = diagnose(faster(cached), faster(single), sites())
    assert found.bottleneck is kind
    assert (found.waits, found.overhead, found.compute) == pytest.approx(parts)
    assert found.sentence.startswith(f"{kind.value}-bound: {parts[0]:.0%} of each step waits")


def test_a_sequential_map_is_named() -> None:
    """Only where the script waits, and not where TensorFlow itself makes the map parallel."""
    python = Site(op="map", where="/x/train.py:31", stateful=("EagerPyFunc",))
    stateless = Site(op="map", where="/x/train.py:30")
    said = diagnose(faster(5.0), faster(9.0), sites(stateless, python)).sentence
    assert said.endswith("; map at train.py:31 is sequential")
    assert "sequential" not in diagnose(faster(5.0), faster(9.0), sites(stateless)).sentence
    assert "sequential" not in diagnose(faster(1.0), faster(9.0), sites(python)).sentence


def test_what_can_t_be_told_is_not() -> None:
    """Without a dataset nothing is known; without a batch only the input's part is known."""
    assert diagnose(None, None, sites()).bottleneck is Bottleneck.UNKNOWN
    half = diagnose(faster(4.0), None, sites())
    assert (half.bottleneck, half.waits, half.compute) == (Bottleneck.INPUT, 0.75, None)


def space(*names: str, quota: float | None = None) -> Space:
    """Return a space of these knobs on two CPUs."""
    return make_space(names, machine=machine(2, quota, cores=2), build=BUILD)


@pytest.mark.parametrize("bottleneck", list(Bottleneck))
@pytest.mark.parametrize("quota", [None, 1.0])
def test_candidates_lie_in_the_space(bottleneck: Bottleneck, quota: float | None) -> None:
    """Candidates are complete, distinct, not the default, and within a quota."""
    whole = space(*KNOBS, quota=quota)
    found = first_candidates(bottleneck, whole)
    assert found
    assert whole.default not in found
    assert all(whole.holds(candidate) for candidate in found)
    assert len({str(candidate) for candidate in found}) == len(found)


def test_candidates_suit_the_bottleneck() -> None:
    """OpenMP's spinning if threads compute, more calls if the input is slow."""
    compute = first_candidates(Bottleneck.COMPUTE, space("inter_op", "onednn", "kmp_blocktime"))
    assert compute[0] == {"inter_op": 1, "onednn": "1", "kmp_blocktime": "0"}
    waiting = first_candidates(Bottleneck.INPUT, space("intra_op", "map_parallelism"))
    assert waiting[0] == {"intra_op": 1, "map_parallelism": "8"}
    assert first_candidates(Bottleneck.INPUT, space("onednn")) == []


def test_the_recipe_keeps_tf_data_within_a_quota() -> None:
    """Without a quota the pool stays as written; with one, pool and budget are bounded."""
    names = ("data_threads", "data_cpu_budget")
    free = recipe_configuration(names, machine=machine(8), build=BUILD)
    bound = recipe_configuration(names, machine=machine(8, 3.0), build=BUILD)
    assert set(free.values()) == {"as_written"}
    assert bound == {"data_threads": "2", "data_cpu_budget": "2"}
