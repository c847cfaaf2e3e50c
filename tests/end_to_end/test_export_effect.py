"""In a fresh process the exported files really take effect, each on its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotuner.export.content import Export
from autotuner.export.formats import write_files
from tests.end_to_end.test_pipeline import GRAPH
from tests.unit.test_export import export, result

__all__ = ["export", "result"]
pytestmark = pytest.mark.real_tensorflow

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


def test_best_py_applies_everything(export: Export, tmp_path: Path) -> None:
    """``import best`` as the first line sets threads, oneDNN, map parallelism and prefetch."""
    write_files(tmp_path, export)
    body = "import best\nimport os\n" + GRAPH + LISTS + THREADS
    check(run(tmp_path, body, [sys.executable]))


def test_best_py_can_be_pasted(export: Export, tmp_path: Path) -> None:
    """The whole file pasted in front of a script does the same."""
    write_files(tmp_path, export)
    body = (tmp_path / "best.py").read_text() + GRAPH + LISTS + THREADS
    check(run(tmp_path, body, [sys.executable]))


def test_best_env_on_its_own(export: Export, tmp_path: Path) -> None:
    """After ``source best.env`` a script has the threads, and the tf.data values if it asks."""
    write_files(tmp_path, export)
    body = "import os\n" + GRAPH + ASKS + THREADS
    shell = f'. ./best.env && exec {sys.executable} "$@"'
    check(run(tmp_path, body, ["sh", "-c", shell, "sh"]))


def test_best_py_after_tensorflow_is_refused(export: Export, tmp_path: Path) -> None:
    """Imported too late it says so, rather than doing half of it."""
    write_files(tmp_path, export)
    (tmp_path / "late.py").write_text("import tensorflow\nimport best\n")
    done = subprocess.run(
        [sys.executable, "late.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
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
    for threads in (1, 2, 5):
        setting = [f"TF_NUM_INTRAOP_THREADS={threads}", "TF_NUM_INTEROP_THREADS=2"]
        new = run(tmp_path, body, ["env", *setting, sys.executable])["new"]
        assert isinstance(new, int)
        found.append(new)
    assert [new - found[0] for new in found] == [0, 1, 4]
