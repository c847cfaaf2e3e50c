"""The doctor's advice: which problems it reports, and which states it does not."""

import dataclasses
from pathlib import Path

import pytest

from autotuner.knobs.advice import find_advice
from autotuner.knobs.knob import Build
from autotuner.machine.conditions import find_causes, read_counters
from tests.fakes import machine

STOCK = Build(
    tensorflow="2.21.0",
    keras="3",
    python="3.11.7",
    onednn_default=True,
    openmp=None,
    package="tensorflow",
)
INTEL = dataclasses.replace(STOCK, openmp="libiomp5.so", package="intel-tensorflow")
QUIET = {"TF_ENABLE_ONEDNN_OPTS": "1"}


def kinds(environment: dict[str, str], build: Build, tmp_path: Path) -> list[str]:
    """Return the kinds of advice on a machine of eight CPUs without a quota."""
    found = find_advice(environment, machine(affinity=8), build, dev=tmp_path)
    assert all(one.text and one.advice for one in found)
    return [one.kind for one in found]


@pytest.mark.parametrize(
    ("environment", "build", "expected"),
    [
        (QUIET, STOCK, []),
        ({}, STOCK, ["onednn_unset"]),
        ({}, INTEL, []),  # always on there, unless another variable switches it off
        ({**QUIET, "TF_NUM_INTRAOP_THREADS": "-1"}, STOCK, ["aborts"]),
        ({**QUIET, "TF_NUM_INTEROP_THREADS": "9"}, STOCK, ["oversubscribed"]),
        ({**QUIET, "OMP_NUM_THREADS": "4"}, STOCK, ["inert"]),
        ({**QUIET, "OMP_NUM_THREADS": "4"}, INTEL, ["set"]),
        ({**QUIET, "OMP_NUM_THREADS": "16"}, INTEL, ["oversubscribed"]),
        ({**QUIET, "KMP_BLOCKTIME": "0"}, STOCK, ["inert"]),
        ({**QUIET, "KMP_BLOCKTIME": "0"}, INTEL, []),
    ],
)
def test_what_is_in_the_environment(
    tmp_path: Path, environment: dict[str, str], build: Build, expected: list[str]
) -> None:
    """Each problem is reported once; a sound environment gives no advice."""
    assert kinds(environment, build, tmp_path) == expected


def test_a_quota_is_not_seen_by_tensorflow(tmp_path: Path) -> None:
    """The advice is a line to paste, for the variables that are not set yet."""
    (found,) = find_advice(QUIET, machine(affinity=8, quota=1.5), STOCK, dev=tmp_path)
    assert found.kind == "quota_ignored"
    assert "the CPU quota is 1.5" in found.text
    assert "export TF_NUM_INTRAOP_THREADS=2 TF_NUM_INTEROP_THREADS=2" in found.advice
    both = {**QUIET, "TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "1"}
    found_kinds = [c.kind for c in find_advice(both, machine(8, 1.5), STOCK, dev=tmp_path)]
    assert found_kinds == ["set", "set"]


def test_threads_matter_under_a_quota_of_one() -> None:
    """With one CPU in the affinity they don't matter."""
    now = read_counters()

    def names(affinity: int, quota: float | None) -> set[str]:
        return {c.kind for c in find_causes(machine(affinity, quota), now, now, others_cores=None)}

    assert "few_cores" in names(1, None)
    assert "few_cores" not in names(8, 1.0)


def test_a_gpu_is_reported(tmp_path: Path) -> None:
    """A GPU is reported, with the CPU knobs that still matter."""
    (tmp_path / "nvidia0").touch()
    (found,) = find_advice(QUIET, machine(affinity=8), STOCK, dev=tmp_path)
    assert found.kind == "gpu"
    assert "map_parallelism" in found.advice
