"""The README stays true: its commands are run, its make targets exist, its links lead somewhere."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.commands import SCRIPT, STUBBED, STUBBED_PATH
from tests.end_to_end.forking import ForkedCommand
from tests.forked import run_forked

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SERVICE = "http://127.0.0.1:18765"
DISTURBED = "other processes used the CPU all the time"
"""Why verify and compare may find nothing here; tests/integration/test_versus.py simulates both."""

FIRST = "autotune run --model mymodel.py"
"""The command whose files the later ones take."""

WITH_FINAL = ("--trials", "2", "--pairs", "2")
WITHOUT_FINAL = ("--trials", "2", "--pairs", "0", "--sequential", "--export-anyway")

NEEDS_TENSORFLOW = [
    FIRST,
    "autotune exec .autotune/studies/mymodel/best.json -- python mymodel.py",
    "autotune check .autotune/studies/mymodel/best.json",
    ". .autotune/studies/mymodel/best.env && python mymodel.py",
    "autotune doctor",
]
pytestmark = pytest.mark.real_tensorflow


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    """Return the README's commands in their order, each once."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return list(dict.fromkeys(line.split("  #")[0].split(" # ")[0].strip() for line in lines))


def quick(line: str, first: Sequence[str]) -> list[str]:
    """Return a command of ours with as little as it takes, and a short measurement.

    With one trial no knob is inspected.

    Args:
        line: the command.
        first: options of FIRST.
    """
    words = shlex.split(line)
    if words[:2] in (["autotune", "verify"], ["autotune", "compare"]):
        return [*words, "--pairs", "2", "--effort", "fast", "--measure-time", "0.3s"]
    if words[:2] == ["autotune", "submit"]:
        return [*words, "--trials", "1", "--measure-time", "0.3s", "--pairs", "0"]
    if words[:2] != ["autotune", "run"]:
        return words
    short = ["--measure-time", "0.3s", "--trials", "1"]
    if line == FIRST:
        short = ["--measure-time", "0.3s", *first]
    if "--effort" not in words:
        short += ["--effort", "fast"]
    at = words.index("--") if "--" in words else len(words)
    return [*words[:at], *short, *words[at:]]


SAVED = """
import keras
images = keras.layers.Input((32, 32, 3), name="images")
out = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(images))
model = keras.Model(images, out)
model.save("model.keras")
model.export("saved_model_dir", verbose=False)
"""


def sections() -> tuple[list[str], list[str]]:
    """Return the commands of the first study, and those for other models."""
    everything = commands()
    at = everything.index("autotune workloads")
    return everything[:at], everything[at:]


def prepare(folder: Path, model: str) -> None:
    """Write the README's files."""
    (folder / "mymodel.py").write_text(model)
    (folder / "train.py").write_text(
        "import sys\nassert sys.argv[1:] == ['--epochs', '3', 'data']\n" + model
    )
    (folder / "study.toml").write_text(blocks("toml")[0])


def run_lines(
    lines: list[str], folder: Path, first: Sequence[str] = WITHOUT_FINAL, **variables: str
) -> None:
    """Run commands in order in one folder; a service runs beside the commands after it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "AUTOTUNE_URL": SERVICE, **variables}
    with contextlib.ExitStack() as beside:
        for line in lines:
            if line.startswith("autotune serve"):
                beside.enter_context(service(line, folder, environment))
            else:
                run_line(line, folder, first, environment)


def run_line(line: str, folder: Path, first: Sequence[str], environment: dict[str, str]) -> None:
    """Run one command."""
    if line.startswith("make "):
        assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    if line.startswith(("optuna-dashboard", "autotune dashboard")):
        check_dashboard(line, folder, environment)
        return
    words = ["sh", "-c", line] if "&&" in line else quick(line, first)
    if words[0] == "autotune" and environment.get("PYTHONPATH") == STUBBED_PATH:
        done = run_forked(words[1:], cwd=folder, env=environment)
    else:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
    if words[:2] in (["autotune", "verify"], ["autotune", "compare"]) and DISTURBED in done.stderr:
        return
    assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.long
def test_the_first_study(tmp_path: Path) -> None:
    """The README's own script on real TensorFlow: it is tuned, deployed and checked."""
    lines, _ = sections()
    real = [line for line in lines if line in NEEDS_TENSORFLOW]
    assert len(real) == len(NEEDS_TENSORFLOW)
    prepare(tmp_path, blocks("python")[0])
    run_lines(real, tmp_path)


@pytest.mark.long
def test_every_command_for_a_study(tmp_path: Path) -> None:
    """All commands of the first study that do not run the README's own script, on a stub."""
    lines, _ = sections()
    prepare(tmp_path, SCRIPT)
    others = [line for line in lines if line not in NEEDS_TENSORFLOW]
    run_lines([FIRST, *others], tmp_path, WITH_FINAL, **STUBBED)
    assert len(lines) >= 15


MODELS = ("mlp_train", "model.keras", "saved_model_dir", "study.toml")
"""Parts of the commands that name a model in another way than by its script."""


@pytest.mark.xdist_group("forked")
def test_other_models(tmp_path: Path, autotune_forked: ForkedCommand) -> None:
    """A workload, saved models and a study file, on real TensorFlow."""
    _, lines = sections()
    real = [line for line in lines if any(model in line for model in MODELS)]
    assert len(real) == len(MODELS)
    prepare(tmp_path, blocks("python")[0])
    subprocess.run([sys.executable, "-c", SAVED], cwd=tmp_path, check=True, timeout=120)
    for line in real:
        done = autotune_forked(*quick(line, ())[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.long
def test_every_command_for_scripts(tmp_path: Path) -> None:
    """All other commands, those of the service too, on a stub."""
    _, lines = sections()
    prepare(tmp_path, SCRIPT)
    light = [line for line in lines if not any(model in line for model in MODELS)]
    run_lines([FIRST, *light], tmp_path, **STUBBED)
    assert len(lines) >= 14


@contextlib.contextmanager
def service(line: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run the README's service on another port while the context lasts."""
    own = [
        "--port",
        SERVICE.rpartition(":")[2],
        "--dashboard-port",
        "0",
        "--pass-env",
        "PYTHONPATH",
    ]
    with subprocess.Popen(
        [*shlex.split(line), *own], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("Ctrl-C" in said for said in process.stdout)
        try:
            yield
        finally:
            process.terminate()
    assert process.returncode == 0


def check_dashboard(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Start the README's dashboard on another port, and request the studies."""
    process = subprocess.Popen(
        [*shlex.split(line), "--port", "18080"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen("http://127.0.0.1:18080/api/studies") as answer:
                    assert b"mymodel" in answer.read()
                return
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.2)
    finally:
        process.terminate()
        process.wait()


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents is a file."""
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert target.startswith("http") or (document.parent / target).exists(), target


def test_the_knobs_page_is_complete() -> None:
    """Every knob and its variable or option stands in docs/knobs.md."""
    from autotuner.knobs.catalogue import KNOBS

    page = (ROOT / "docs/knobs.md").read_text()
    assert all(f"| `{name}` |" in page for name in KNOBS)


def test_dependencies_are_justified() -> None:
    """Every dependency of the project stands in CONTRIBUTING and in the constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    constraints = (ROOT / "constraints.txt").read_text()
    everything = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in everything:
        name = re.split(r"[<>=\[]", requirement)[0]
        assert name in contributing, name
        assert re.search(rf"^{name}==", constraints, re.MULTILINE), name
