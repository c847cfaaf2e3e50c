"""The house: stages import one way, and the two walls hold."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "autotuner"
# what runs in the user's interpreter
CHILD = PACKAGE / "child"

# the way data flows; a module imports only from its own stage and those before it
STAGES = [
    "plain",
    "errors",
    "codec",
    "files",
    "stepping",
    "options",
    "machine",
    "knobs",
    "trial",
    "statistics",
    "study",
    "verdict",
    "stages",
    "export",
    "exec",
    "report",
    "service",
    "cli",
    "testing",
]


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Yield (module, level of a relative import) for every import statement of a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


def modules(*, child: bool) -> list[Path]:
    """Return the package's files, those that run in the user's interpreter or all others."""
    return [file for file in sorted(PACKAGE.rglob("*.py")) if (CHILD in file.parents) is child]


def test_stages_import_one_way() -> None:
    """A stage knows only the stages before it."""
    wrong = []
    for file in modules(child=False):
        stage = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if stage in ("__init__", "__main__"):
            continue
        for module, _ in imports(file):
            if module.startswith("autotuner."):
                other = module.split(".")[1]
                if STAGES.index(other) > STAGES.index(stage):
                    wrong.append(f"{file.name}: {module}")
    assert wrong == []


def test_the_product_does_without_its_test_support() -> None:
    """Simulator and replay are for tests and benchmarks; the product never imports them."""
    for file in PACKAGE.rglob("*.py"):
        if PACKAGE / "testing" not in file.parents:
            assert not [m for m, _ in imports(file) if m.startswith("autotuner.testing")], file


def test_optuna_is_imported_where_studies_are() -> None:
    """Other stages work with records; optuna-dashboard is served by the service."""
    users, dashboards = set(), set()
    for file in modules(child=False):
        packages = {module.split(".")[0] for module, _ in imports(file)}
        name = file.relative_to(PACKAGE).as_posix()
        if "optuna" in packages and not name.startswith(("study/", "testing/")):
            users.add(name)
        if "optuna_dashboard" in packages:
            dashboards.add(name)
    assert users == set()
    assert dashboards == {"service/dashboard.py"}


def test_the_parent_never_imports_tensorflow_or_the_child() -> None:
    """TensorFlow and the user's code live in the child's process only."""
    for file in modules(child=False):
        for module, _ in imports(file):
            assert module.split(".")[0] not in ("tensorflow", "keras"), file
            assert "autotuner.child" not in module, file


def test_the_child_needs_nothing_but_the_standard_library_and_tensorflow() -> None:
    """Our dependencies are not installed in the user's interpreter."""
    # the module "autotuner" is there in every trial: the child provides it
    allowed = {*sys.stdlib_module_names, "tensorflow", "autotuner"}
    for file in modules(child=True):
        for module, level in imports(file):
            assert level == 1 or module.split(".")[0] in allowed, (file.name, module)


@pytest.mark.parametrize("file", modules(child=True), ids=lambda file: file.name)
def test_the_child_is_python_3_9(file: Path) -> None:
    """The user's interpreter may be as old as 3.9."""
    ast.parse(file.read_text(), feature_version=(3, 9))


def test_one_place_prints() -> None:
    """Only the command line and the report write to the screen."""
    for file in modules(child=False):
        stage = file.relative_to(PACKAGE).parts[0]
        names = {
            n.attr for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)
        }
        if stage not in ("cli", "report", "testing"):
            assert not names & {"stdout", "stderr"} or file.name in ("warden.py",), file


def test_no_module_has_a_namesake_on_the_other_side() -> None:
    """A module's name alone tells whether it runs in the user's interpreter."""
    here, there = (
        {file.stem for file in modules(child=child)} - {"__init__"} for child in (False, True)
    )
    assert here & there == set()


def test_reading_loads_neither_scipy_nor_plotly() -> None:
    """Commands that list, export or clean start at once: statistics and pictures load when used."""
    heavy = ("scipy.linalg", "scipy.special", "scipy.optimize", "plotly", "jinja2")
    for module in ("autotuner.cli.browse", "autotuner.cli.run_study"):
        code = f"import sys, {module}; print(sorted(set(sys.modules) & set({heavy!r})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "[]\n", done.stderr
