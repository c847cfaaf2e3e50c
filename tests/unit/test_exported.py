"""Reading an exported file back, or one that was written by hand."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from autotuner.errors import UserError
from autotuner.export.content import export_of
from autotuner.export.exported import build_differences, machine_differences, read_exported
from autotuner.export.formats import render_json
from tests.unit.results import BUILD, FAST, HERE, a_result


def written(folder: Path, document: Any) -> Path:
    """Return a file with a document."""
    path = folder / "best.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_what_is_exported_is_read_back(tmp_path: Path) -> None:
    """Settings, machine, TensorFlow and objective are those of the study."""
    result = a_result(tmp_path)
    found = read_exported(written(tmp_path, render_json(export_of(result, anyway=False))), HERE)
    assert found.configuration == result.decision.best.configuration
    assert not found.holds_default
    assert (found.machine, found.build) == (HERE, BUILD)
    assert found.objective == "throughput"
    assert machine_differences(found, HERE) == build_differences(found, BUILD) == []


def test_defaults_are_marked(tmp_path: Path) -> None:
    """A file says whether it holds TensorFlow's defaults."""
    result = a_result(tmp_path)
    kept = dataclasses.replace(result.decision, finding=None)
    text = render_json(export_of(dataclasses.replace(result, decision=kept), anyway=False))
    assert read_exported(written(tmp_path, text), HERE).holds_default


def test_differences_are_named(tmp_path: Path) -> None:
    """In the terms of the machine and of the build."""
    path = written(tmp_path, render_json(export_of(a_result(tmp_path), anyway=False)))
    found = read_exported(path, HERE)
    other = dataclasses.replace(HERE, affinity_cpus=2, physical_cores=2)
    assert machine_differences(found, other) == [
        "usable CPUs: 4 there, 2 here",
        "physical cores: 4 there, 2 here",
    ]
    newer = dataclasses.replace(BUILD, tensorflow="2.22.0", openmp="libiomp5")
    assert build_differences(found, newer) == [
        "TensorFlow: 2.21.0 there, 2.22.0 here",
        "OpenMP runtime: none there, libiomp5 here",
    ]


def test_a_file_by_hand_needs_only_its_configuration(tmp_path: Path) -> None:
    """Nothing is known of the machine then, also if what there is makes no sense."""
    for more in ({}, {"machine": {"host": "h"}, "build": 3, "model": [], "result": None}):
        found = read_exported(written(tmp_path, {"configuration": FAST, **more}), HERE)
        assert found.configuration == FAST
        assert found.machine is None
        assert found.build is None
        assert found.phase is None
        assert machine_differences(found, HERE) == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("export A=1", "not valid JSON"),
        ([1], "holds no configuration"),
        ({"configuration": {}}, "holds no configuration"),
        ({"configuration": {"intra_ops": 2}}, 'unknown knob "intra_ops"'),
        ({"configuration": {"intra_op": 0}}, "expected a whole number of at least 1"),
        ({"configuration": {"intra_op": True}}, "expected a whole number of at least 1"),
        ({"configuration": {"onednn": "x"}}, "'x' is none of"),
        ({"configuration": FAST, "result": {"objective": "luck"}}, 'unknown objective "luck"'),
        ({"configuration": FAST, "schema": 3}, "schema 3, but this autotune reads 2"),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(
    tmp_path: Path, document: Any, message: str
) -> None:
    """Whatever is in the file."""
    path = written(tmp_path, document)
    with pytest.raises(UserError) as error:
        read_exported(path, HERE)
    assert message in error.value.message
    assert str(path) in error.value.message
