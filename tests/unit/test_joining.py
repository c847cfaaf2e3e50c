"""Which machine may join a study."""

import dataclasses

import pytest

from autotuner.errors import UserError
from autotuner.knobs.knob import Choice, IntRange
from autotuner.study.identity import Identity
from autotuner.study.joining import (
    build_differences,
    check_parts,
    identity_differences,
    machine_differences,
    space_problems,
)
from autotuner.study.space import Space
from tests.fakes import BUILD, machine


def identity_of(*, model: str, arguments: tuple[str, ...]) -> Identity:
    """Return the identity of a study of a script with arguments."""
    return Identity(
        model=model,
        model_sha256="ab",
        arguments=arguments,
        measure="auto",
        phase=None,
        environment=(),
        machine="a host",
        tensorflow="2.21.0",
        python="3.11",
        objective="throughput",
        limits="",
    )


def test_machines_of_one_class() -> None:
    """Another host of the same kind is no difference, nor is about the same memory."""
    here = machine()
    other = dataclasses.replace(
        here, host="elsewhere", memory_bytes=int(here.memory_bytes * 0.98), governor="powersave"
    )
    assert list(machine_differences(here, other, ())) == []


@pytest.mark.parametrize(
    ("part", "change", "line_start"),
    [
        ("cpu", {"cpu_model": "Other"}, "cpu: "),
        ("cores", {"physical_cores": 1}, "cores: "),
        ("quota", {"quota_cpus": 1.5}, "quota: none in the study, 1.5 CPUs here"),
        ("memory", {"memory_bytes": 2**30}, "memory: "),
        ("isa", {"isa": "SSE4.1"}, "isa: "),
    ],
)
def test_each_part_is_compared_and_can_be_relaxed(
    part: str, change: dict[str, object], line_start: str
) -> None:
    """A part that differs gives a line, unless it is relaxed."""
    here = machine()
    other = dataclasses.replace(here, **change)  # type: ignore[arg-type]
    (line,) = machine_differences(here, other, ())
    assert line.startswith(line_start)
    assert list(machine_differences(here, other, {part})) == []


def test_an_unknown_part() -> None:
    """An unknown part is refused."""
    assert check_parts(["cpu", "isa"]) == {"cpu", "isa"}
    with pytest.raises(UserError, match="unknown part"):
        check_parts(["cpus"])


def test_builds() -> None:
    """Another package of TensorFlow is another build; the OpenMP runtime is not known yet."""
    other = dataclasses.replace(BUILD, package="intel-tensorflow", openmp="libiomp5.so")
    (line,) = build_differences(BUILD, other)
    assert "intel-tensorflow here" in line
    assert list(build_differences(BUILD, dataclasses.replace(BUILD, openmp="x"))) == []


def test_where_the_script_lies_is_no_difference() -> None:
    """Its content and its arguments are compared, not its path."""
    study = identity_of(model="/a/train.py", arguments=("--x",))
    here = dataclasses.replace(study, model="/b/train.py", machine="another host")
    assert list(identity_differences(study, here)) == []
    other = dataclasses.replace(here, model_sha256="0", arguments=("--y",))
    assert list(identity_differences(study, other)) == [
        "the script: this copy differs from the study's (SHA-256)",
        "arguments: --x in the study, here --y",
    ]
    saved = identity_of(model="/a/m.keras", arguments=("/a/m.keras", "--batch-size", "32"))
    mine = dataclasses.replace(
        saved, model="/b/m.keras", arguments=("/b/m.keras", "--batch-size", "32")
    )
    assert list(identity_differences(saved, mine)) == []


def test_the_machine_must_have_what_the_study_searches() -> None:
    """Problems are a knob unknown to this version, and an allocator that is not installed."""
    here = machine()
    space = Space(
        domains={"intra_op": IntRange(1, 64), "allocator": Choice(("system", "/x/libjemalloc.so"))},
        default={},
        recipe={},
    )
    (line,) = space_problems(space, here)
    assert (
        line
        == 'knob "allocator": /x/libjemalloc.so is searched in the study, but not available here'
    )
    unknown = Space(domains={"colour": IntRange(1, 2)}, default={}, recipe={})
    assert list(space_problems(unknown, here)) == [
        'knob "colour": not known to this version of autotune'
    ]
