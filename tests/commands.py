"""The ``autotune`` command in a process of its own, and the least that it takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.forked import TREE as TREE
from tests.forked import run_forked

STUB = Path(__file__).parent / "stub"
"""For PYTHONPATH: a TensorFlow that does nothing, so that a trial takes a second."""

SCRIPT = """\
import time
from autotuner import step
print("hello")
while True:
    time.sleep(0.004)
    step(8)
"""
BRIEF = ["--measure-time", "0.3s", "--window", "0.05s", "--warmup-min", "0.2s"]
"""Times of a trial that suit the script: its steps are steady from the first on."""

QUICK = [
    *("--effort", "fast", "--trials", "5", *BRIEF, "--pairs", "2"),
    *("--knobs", "intra_op,kernels"),
]

AUTOTUNE = [sys.executable, "-m", "autotuner"]
STUBBED_PATH = f"{STUB}:{TREE}"
"""For PYTHONPATH: the stub, and the tree that is tested."""

STUBBED = {"PYTHONPATH": STUBBED_PATH}


def autotune(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line in a forked process, with further variables in its environment."""
    return run_forked(arguments, cwd=cwd, env={**os.environ, "COLUMNS": "120", **environment})


def write_best(folder: Path, configuration: dict[str, object], **further: object) -> Path:
    """Write a best.json with a configuration, and return its path."""
    path = folder / "best.json"
    path.write_text(json.dumps({"configuration": configuration, **further}))
    return path
