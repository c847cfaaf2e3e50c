"""The suite: what tests import, and when they wait."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(file for file in TESTS.rglob("*.py") if "scripts" not in file.parts)
TEST_MODULES = [file for file in FILES if file.name.startswith("test_")]


def imports(file: Path) -> Iterator[str]:
    """Yield every module that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, file
            yield node.module or ""
            # ``from tests.unit import test_x`` names a module, too
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_test_module_is_imported(file: Path) -> None:
    """What tests share is in modules of its own, such as tests/fakes.py."""
    for module in imports(file):
        assert module.split(".")[0] != "benchmarks", module
        assert not module.rpartition(".")[2].startswith("test_"), module
        assert module != "tests.conftest", "fixtures come from conftest, functions do not"


def test_every_test_has_a_name_of_its_own() -> None:
    """A second function of the same name would replace the first one without a word."""
    for file in TEST_MODULES:
        found = [n.name for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)]
        assert len(found) == len(set(found)), file
