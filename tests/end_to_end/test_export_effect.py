"""In a fresh process the exported files really take effect, each on its own."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autotuner.cli.main import main
from autotuner.knobs.knob import Configuration
from autotuner.testing.simulated import SimulatedRunner
from tests.commands import STUBBED
from tests.end_to_end.graph import GRAPH
from tests.fakes import Bench, run_all

pytestmark = [pytest.mark.real_tensorflow, pytest.mark.xdist_group("export")]

BEST: Configuration = {
    "inter_op": 1,
    "map_parallelism": "AUTOTUNE",
    "prefetch_depth": "4",
    "onednn": "0",
}
SITES = [
    {"op": "map", "where": "train.py:5", "parallel": None},
    {"op": "iterate", "where": "train.py:9"},
]


def speed(configuration: Configuration) -> float:
    """Return a speed that every setting of BEST raises by a fifth."""
    return 100.0 * 1.2 ** sum(configuration.get(name) == value for name, value in BEST.items())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of a simulated study whose result is BEST."""
    folder = tmp_path_factory.mktemp("study")
    bench = Bench(folder)
    bench.on_disk = True
    runner = SimulatedRunner(speed, inspection={"sites": SITES, "loops": []})
    run_all(bench.session(runner, trials=24, knobs=tuple(BEST)))
    for kind, name in (("env", "best.env"), ("python", "best.py"), ("json", "best.json")):
        with (
            (folder / name).open("w") as file,
            contextlib.chdir(folder),
            contextlib.redirect_stdout(file),
        ):
            assert main(["export", "s", "--format", kind]) == 0
    assert json.loads((folder / "best.json").read_text())["configuration"] == BEST
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """Return a folder of the test's own with the exported files."""
    for file in exported.glob("best.*"):
        shutil.copy(file, tmp_path)
    return tmp_path


THREADS = """
tf.reduce_sum(tf.matmul(tf.ones((256, 256)), tf.ones((256, 256)))).numpy()
tf.function(lambda x: x + 1)(tf.constant(1.0))
pools = [open(f"/proc/self/task/{t}/comm").read().strip() for t in os.listdir("/proc/self/task")]
from tensorflow.python.util import _pywrap_util_port
end(inter=pools.count("tf_Compute"), onednn=_pywrap_util_port.IsMklEnabled())
"""
LISTS = """
data = tf.data.Dataset.range(64).map(lambda x: x * 2).batch(4)
values = [batch.numpy().tolist() for batch in data]
"""
ASKS = """
calls, depth = (os.environ["AUTOTUNE_" + n] for n in ("MAP_PARALLELISM", "PREFETCH_DEPTH"))
calls = tf.data.AUTOTUNE if calls == "AUTOTUNE" else int(calls)
data = tf.data.Dataset.range(64).map(lambda x: x * 2, calls).batch(4).prefetch(int(depth))
values = [batch.numpy().tolist() for batch in data]
"""


def run(tmp_path: Path, body: str, command: list[str]) -> dict[str, object]:
    """Run a script in a fresh process and return what it saw."""
    script = tmp_path / "user_script.py"
    script.write_text(body)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "AUTOTUNE_"))}
    subprocess.run([*command, script], cwd=tmp_path, env=environment, check=True, timeout=120)
    seen: dict[str, object] = json.loads((tmp_path / "seen.json").read_text())
    return seen


def check(seen: dict[str, object]) -> None:
    """Assert that inter-op 1, oneDNN 0, map AUTOTUNE (-1) and prefetch 4 are in effect."""
    assert seen["inter"] == 1
    assert seen["onednn"] is False
    graph = seen["graphs"][0]  # type: ignore[index]
    assert (graph["map"], graph["prefetch"]) == ([-1], [4])


def test_best_py_applies_everything(folder: Path) -> None:
    """``import best`` as the first line sets threads, oneDNN, map parallelism and prefetch."""
    body = "import best\nimport os\n" + GRAPH + LISTS + THREADS
    check(run(folder, body, [sys.executable]))


def test_best_py_can_be_pasted(folder: Path) -> None:
    """The whole file pasted in front of a script does the same."""
    body = (folder / "best.py").read_text() + GRAPH + LISTS + THREADS
    check(run(folder, body, [sys.executable]))


def test_best_env_on_its_own(folder: Path) -> None:
    """After ``source best.env`` a script has the threads, and the tf.data values if it asks."""
    body = "import os\n" + GRAPH + ASKS + THREADS
    shell = f'. ./best.env && exec {sys.executable} "$@"'
    check(run(folder, body, ["sh", "-c", shell, "sh"]))


def test_best_py_after_tensorflow_is_refused(folder: Path) -> None:
    """Imported too late it raises an error, rather than setting only some knobs."""
    (folder / "late.py").write_text("import tensorflow\nimport best\n")
    environment = {**os.environ, **STUBBED}  # what is imported does not matter
    done = subprocess.run(
        [sys.executable, "late.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "must come before import tensorflow" in done.stderr


def test_intra_op_threads_are_real(tmp_path: Path) -> None:
    """TF_NUM_INTRAOP_THREADS=N starts N - 1 threads more than N = 1 does."""
    body = (
        "import os\nos.environ.setdefault('OPENBLAS_NUM_THREADS', '1')\n"
        + GRAPH
        + "before = len(os.listdir('/proc/self/task'))\n"
        + "tf.constant(1.0) + 1\n"
        + "tasks = os.listdir('/proc/self/task')\n"
        + "names = [open(f'/proc/self/task/{t}/comm').read().strip() for t in tasks]\n"
        + "compute = names.count('tf_Compute')\n"
        + "end(new=len(names) - before - compute)"
    )
    found = []
    for threads in (1, 5):
        setting = [f"TF_NUM_INTRAOP_THREADS={threads}", "TF_NUM_INTEROP_THREADS=2"]
        new = run(tmp_path, body, ["env", *setting, sys.executable])["new"]
        assert isinstance(new, int)
        found.append(new)
    assert [new - found[0] for new in found] == [0, 4]
