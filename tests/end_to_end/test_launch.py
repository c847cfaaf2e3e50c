"""``autotune exec`` and ``autotune check`` on real TensorFlow."""

import ctypes.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from autotuner.codec import from_json
from autotuner.exec.check import Effect, ReadBack
from autotuner.knobs.catalogue import KNOBS
from autotuner.machine.host import inspect_machine
from autotuner.report.check_report import summary
from tests.commands import AUTOTUNE, STUBBED, autotune, write_best
from tests.end_to_end.graph import GRAPH
from tests.end_to_end.kinds import SCRIPTS

pytestmark = pytest.mark.real_tensorflow


def python_of(script: str) -> list[str]:
    """Return a command that runs a script's text."""
    return [sys.executable, "-c", script]


def execute(
    folder: Path, configuration: dict[str, object], command: Sequence[str], *options: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command by autotune exec."""
    best = write_best(folder, configuration)
    return autotune("exec", str(best), *options, "--", *command, cwd=folder)


# a number of threads that nothing has by default
THREADS = {"inter_op": 5, "intra_op": 1, "onednn": "0", "prefetch_depth": "4"}


# what exec sets does not depend on what a step is: keras, threads of its own, children, output
@pytest.mark.parametrize(
    "script", ["fit_dataset.py", "own_threads.py", "worker_processes.py", "garbage_output.py"]
)
def test_unmodified_scripts(tmp_path: Path, script: str) -> None:
    """Each kind runs unmodified, has the threads, and ends by the signal that it is sent."""
    best = write_best(tmp_path, dict(THREADS))
    with (tmp_path / "output.log").open("wb") as log:
        process = subprocess.Popen(
            [*AUTOTUNE, "exec", str(best), "--", sys.executable, str(SCRIPTS / script)],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 120
        while threads_of(process.pid) != THREADS["inter_op"]:
            assert process.poll() is None, (tmp_path / "output.log").read_text()
            assert time.monotonic() < deadline, threads_of(process.pid)
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def threads_of(pid: int) -> int:
    """Return how many threads of TensorFlow's inter-op pool a process has."""
    count = 0
    for file in Path(f"/proc/{pid}/task").glob("*/comm"):
        try:
            count += file.read_text().strip() == "tf_Compute"
        except OSError:
            continue
    return count


def test_tf_data_and_a_script_s_own_settings(tmp_path: Path) -> None:
    """Settings of tf.data reach an unmodified script, and its own ones do not beat the file."""
    body = """
import os
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
import tensorflow as tf
tf.config.threading.set_inter_op_parallelism_threads(2)
data = tf.data.Dataset.range(64).map(lambda x: x * 2).batch(4)
values = [batch.numpy().tolist() for batch in data]
from tensorflow.python.util import _pywrap_util_port
pools = [open(f"/proc/self/task/{t}/comm").read().strip() for t in os.listdir("/proc/self/task")]
end(inter=pools.count("tf_Compute"), onednn=_pywrap_util_port.IsMklEnabled())
"""
    (tmp_path / "user.py").write_text(GRAPH + body)
    configuration: dict[str, object] = {**THREADS, "map_parallelism": "4", "data_autotune": "0"}
    command = [sys.executable, "user.py"]
    done = execute(tmp_path, configuration, command, "--verbose")
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert (seen["graphs"][0]["map"], seen["graphs"][0]["prefetch"]) == ([4], [4])
    assert (seen["inter"], seen["onednn"]) == (5, False)
    assert "autotune exec: TF_NUM_INTEROP_THREADS=5" in done.stderr
    assert "set_inter_op_parallelism_threads(2) itself; it is ignored" in done.stderr
    assert "user.py" in done.stderr
    quiet = execute(tmp_path, configuration, python_of("pass"))
    assert "autotune exec" not in quiet.stderr


# a background job's children ignore it otherwise
DIES = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL);"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("import sys; sys.exit(7)", 7),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        (f"{DIES} os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("pass", 0),
    ],
)
def test_the_exit_code_is_the_script_s(tmp_path: Path, body: str, code: int) -> None:
    """Also when it dies by a signal."""
    assert execute(tmp_path, dict(THREADS), python_of(body)).returncode == code


def test_another_sitecustomize_still_runs(tmp_path: Path) -> None:
    """The environment's own one is imported after ours."""
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.was_here = True\n")
    best = write_best(tmp_path, dict(THREADS))
    line = [*AUTOTUNE, "exec", str(best), "--", *python_of("print(was_here)")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_what_can_t_be_launched(tmp_path: Path) -> None:
    """No command, an unknown one, and a Python that would ignore the settings."""
    for command, message in (
        ([], "nothing to run"),
        (["no-such-command"], "no-such-command: no such command"),
        (["python3", "-I", "x.py"], "python3 -I: can't be tuned from outside"),
    ):
        done = execute(tmp_path, dict(THREADS), command)
        assert done.returncode == 1
        assert f"error: {message}" in done.stderr
        assert "hint: " in done.stderr
    best = write_best(tmp_path, dict(THREADS))
    done = autotune("exec", str(best), "python3", "-c", "pass", cwd=tmp_path)
    assert done.returncode == 2
    assert "hint: a command goes after --" in done.stderr


def of_here(**changes: object) -> dict[str, Any]:
    """Return a machine's facts as an export has them, this one's but for the changes."""
    import dataclasses

    return {**dataclasses.asdict(inspect_machine()), **changes}


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """Another machine stops exec before, another TensorFlow at its import; --force goes on."""
    ours = {"tensorflow": "0.0.1", "keras": "", "python": "", "onednn_default": True}
    build = {**ours, "openmp": None, "package": "tensorflow"}
    script = python_of("import tensorflow; print('ran')")
    light = python_of("print('ran')")
    best = write_best(tmp_path, dict(THREADS), machine=of_here(cpu_model="Abacus", numa_nodes=9))
    done = autotune("exec", str(best), "--", *script, cwd=tmp_path)
    assert done.returncode == 1
    assert "is for another machine: CPU: Abacus there" in done.stderr
    assert "NUMA nodes: 9 there, 1 here" in done.stderr
    forced = autotune("exec", str(best), "--force", "--", *light, cwd=tmp_path)
    assert (forced.returncode, forced.stdout) == (0, "ran\n"), forced.stderr
    assert "note: made on another machine: CPU: Abacus there" in forced.stderr

    best = write_best(tmp_path, dict(THREADS), machine=of_here(), build=build)
    # the stub has a version, too, and that is what is compared
    done = autotune("exec", str(best), "--", *script, cwd=tmp_path, **STUBBED)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "was made with TensorFlow 0.0.1 (tensorflow), this is" in done.stderr
    forced = autotune("exec", str(best), "--force", "--", *script, cwd=tmp_path)
    assert (forced.returncode, forced.stdout) == (0, "ran\n"), forced.stderr
    # check reports both differences
    best = write_best(tmp_path, dict(THREADS), machine=of_here(cpu_model="Abacus"), build=build)
    done = autotune("check", str(best), cwd=tmp_path)
    assert done.returncode == 1
    assert "differs: CPU: Abacus there" in done.stdout
    assert "differs: TensorFlow: 0.0.1 there" in done.stdout


EVERYTHING: dict[str, object] = {
    "intra_op": 3,
    "inter_op": 5,
    "map_parallelism": "8",
    "interleave_parallelism": "2",
    "batch_parallelism": "AUTOTUNE",
    "prefetch_depth": "4",
    "data_threads": "4",
    "data_autotune": "1",
    "data_cpu_budget": "1",
    "onednn": "0",
    "steps_per_execution": "8",
    "jit_compile": "1",
    "auto_jit": "on",
    "cpus": "0",
    "malloc_arenas": "2",
    "batch_size": "64",
}


def test_check_reads_every_knob_back(tmp_path: Path) -> None:
    """What is set takes effect, knob by knob, and is read from TensorFlow or the kernel."""
    done = autotune("check", str(write_best(tmp_path, EVERYTHING)), "--json", cwd=tmp_path)
    effects = {one["knob"]: one for one in json.loads(done.stdout)["effects"]}
    wrong = {name: e for name, e in effects.items() if e["effect"] != Effect.TAKEN}
    assert wrong == {}, done.stdout
    assert set(effects) == set(EVERYTHING)
    assert done.returncode == 0
    assert summary([from_json(ReadBack, one) for one in effects.values()]) == (
        f"set {len(EVERYTHING)}, took effect {len(EVERYTHING)}"
    )


def test_an_allocator_is_preloaded(tmp_path: Path) -> None:
    """It is mapped into the process, and what the environment preloads already stays."""
    allocators = inspect_machine().allocators
    if not allocators:
        pytest.skip("no tcmalloc, jemalloc or mimalloc is installed (Debian: libjemalloc2)")
    configuration: dict[str, object] = {"allocator": allocators[0]}
    done = autotune("check", str(write_best(tmp_path, configuration)), cwd=tmp_path)
    assert "set 1, took effect 1" in done.stdout, done.stdout
    assert done.returncode == 0
    show = "import os; print(os.environ['LD_PRELOAD']); print(open('/proc/self/maps').read())"
    other = ctypes.util.find_library("z") or "libz.so.1"
    line = [*AUTOTUNE, "exec", "best.json", "--", *python_of(show)]
    environment = {**os.environ, "LD_PRELOAD": other}
    said = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    first = said.stdout.splitlines()[0]
    assert allocators[0] in first, said.stderr
    assert other in first
    assert os.path.realpath(allocators[0]) in said.stdout


def test_check_names_what_has_no_effect(tmp_path: Path) -> None:
    """OpenMP's variables do nothing in the stock wheel; some knobs can't be read back."""
    configuration: dict[str, object] = {
        "intra_op": 1,
        "kmp_blocktime": "0",
        "onednn_keep_primitives": "1",
    }
    done = autotune("check", str(write_best(tmp_path, configuration)), cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "set 3, took effect 1, without effect 1 (kmp_blocktime), "
        "can't be read back 1 (onednn_keep_primitives)"
    ) in done.stdout
    assert "no OpenMP runtime in the process" in done.stdout.replace("\n", " ")


def test_check_knows_other_values_from_those_set(tmp_path: Path) -> None:
    """What is read back differs with what is set: it is not an echo."""
    other: dict[str, object] = {
        "intra_op": 1,
        "inter_op": 2,
        "map_parallelism": "sequential",
        "prefetch_depth": "0",
        "data_autotune": "0",
        "onednn": "1",
        "onednn_isa": "AVX2",
    }
    done = autotune("check", str(write_best(tmp_path, other)), "--json", cwd=tmp_path)
    effects = json.loads(done.stdout)["effects"]
    assert [one["effect"] for one in effects] == [Effect.TAKEN] * len(other), effects
    assert [str(one["found"]) for one in effects] == [str(value) for value in other.values()]


def test_the_catalogue_is_covered() -> None:
    """Each knob is read back in a test above, or can't be, or needs another build or library."""
    elsewhere = {"omp_num_threads", "mkl_num_threads", "kmp_blocktime", "kmp_affinity", "allocator"}
    assert set(KNOBS) == set(EVERYTHING) | elsewhere | {
        "onednn_isa",
        "onednn_keep_primitives",
        "fpmath",
    }
