"""Intel's build, where OpenMP's variables act: what is live, and what takes effect."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from autotuner.exec.check import Effect
from tests.commands import autotune, write_best

INTEL = os.environ.get("AUTOTUNE_TEST_INTEL", "")
SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = [
    pytest.mark.real_tensorflow,
    pytest.mark.skipif(not INTEL, reason="AUTOTUNE_TEST_INTEL names no Python (make test-intel)"),
]


def doctor(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the doctor's findings on an interpreter."""
    done = autotune("doctor", "--json", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_openmp_is_live_here_and_inert_on_the_stock_wheel(tmp_path: Path) -> None:
    """The same question to both builds, side by side."""
    stock, intel = doctor(tmp_path), doctor(tmp_path, "--python", INTEL)
    assert stock["build"]["package"] == "tensorflow"
    assert intel["build"]["package"] == "intel-tensorflow"
    assert stock["evidence"]["onednn_runtime"] == "threadpool"
    assert intel["evidence"]["onednn_runtime"] == "OpenMP"
    for name in ("omp_num_threads", "kmp_blocktime", "kmp_affinity"):
        found = {
            build["build"]["package"]: one["state"]
            for build in (stock, intel)
            for one in build["liveness"]
            if one["knob"] == name
        }
        assert found == {"tensorflow": "inert", "intel-tensorflow": "live"}


def test_what_is_set_takes_effect(tmp_path: Path) -> None:
    """OpenMP's own functions say so, and oneDNN can be switched off."""
    configuration: dict[str, object] = {
        "intra_op": 2,
        "inter_op": 1,
        "onednn": "1",
        "omp_num_threads": 1,
        "kmp_blocktime": "1",
        "kmp_affinity": "granularity=fine,compact,1,0",
    }
    best = write_best(tmp_path, configuration)
    done = autotune("check", str(best), "--python", INTEL, cwd=tmp_path)
    assert "set 6, took effect 6" in done.stdout, done.stdout + done.stderr
    best = write_best(tmp_path, {"onednn": "0", "kmp_blocktime": "infinite"})
    done = autotune("check", str(best), "--python", INTEL, "--json", cwd=tmp_path)
    effects = {one["knob"]: one for one in json.loads(done.stdout)["effects"]}
    assert effects["onednn"]["effect"] == Effect.TAKEN
    assert effects["onednn"]["found"] == "0"


def test_a_study_searches_openmp(tmp_path: Path) -> None:
    """From the command line to the files, with OpenMP's variables among the settings."""
    script = str(SCRIPTS / "fit_arrays.py")
    line = ["run", "--model", script, "--python", INTEL, "--trials", "3", "--pairs", "0"]
    done = autotune(*line, "--effort", "fast", "--measure-time", "0.3s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / ".autotune/studies/fit_arrays/best.json").read_text())
    assert {"omp_num_threads", "kmp_blocktime", "kmp_affinity"} <= set(document["configuration"])
    assert document["build"]["openmp"].startswith("libiomp5")
    folder = tmp_path / ".autotune/studies/fit_arrays"
    stock = autotune("check", str(folder / "best.json"), cwd=tmp_path)
    assert stock.returncode == 1
    assert "differs: TensorFlow: 2.14.0 there" in stock.stdout
