"""``--model`` with a saved model: its inference is tuned, with inputs out of the signature."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.forking import ForkedCommand

pytestmark = [pytest.mark.real_tensorflow, pytest.mark.xdist_group("forked")]
QUICK = ["--effort", "fast", "--measure-time", "0.3s", "--sequential", "--pairs", "0"]
QUICK += ["--export-anyway"]

MAKE = """
import tensorflow as tf

image = tf.keras.layers.Input((16, 16, 3), name="image")
words = tf.keras.layers.Input((None,), dtype="int32", name="words")
x = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Conv2D(8, 3)(image))
y = tf.keras.layers.GlobalAveragePooling1D()(tf.keras.layers.Embedding(10, 8)(words))
model = tf.keras.Model([image, words], tf.keras.layers.Dense(2)(x + y))
model.save("model.keras")
model.export("exported", verbose=False) if hasattr(model, "export") else model.save("exported")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model saved in both ways."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", MAKE], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_keras_file(models: Path, tmp_path: Path, autotune_forked: ForkedCommand) -> None:
    """Both inputs are made up, the batch size is the requested one, and steps are counted."""
    line = ["run", "--model", str(models / "model.keras"), "--batch-size", "4", "--trials", "2"]
    done = autotune_forked(*line, "--shape", "words=4,7", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a step is: step; measured in samples/s" in done.stderr
    document = json.loads((tmp_path / ".autotune/studies/model/best.json").read_text())
    assert document["model"]["model"].endswith("model.keras")
    assert set(document["configuration"]) == {"intra_op", "inter_op", "onednn"}
    refused = autotune_forked("export", "model", "--format", "serving", cwd=tmp_path)
    assert refused.returncode == 1
    assert "TensorFlow Serving takes a SavedModel" in refused.stderr


def test_a_saved_model_and_its_batch_size(
    models: Path, tmp_path: Path, autotune_forked: ForkedCommand
) -> None:
    """The batch size is searched on request, and exported for TensorFlow Serving."""
    line = ["run", "--model", str(models / "exported"), "--trials", "3"]
    done = autotune_forked(*line, "--knobs", "threads,batch_size", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "batch_size=" in done.stderr
    assert "crashed" not in done.stderr
    flags = autotune_forked(
        "export", "exported", "--format", "serving", "--export-anyway", cwd=tmp_path
    )
    lines = [one for one in flags.stdout.splitlines() if not one.startswith("#")]
    assert lines[0].startswith("--tensorflow_intra_op_parallelism=")
    assert lines[1].startswith("--tensorflow_inter_op_parallelism=")
    assert not any("session_parallelism" in one for one in lines)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shape", "nothing=1,2"], "--shape: no input nothing; there are: image, words"),
        (["--shape", "words=4"], None),
        (["--shape", "words"], '--shape "words": not a shape'),
        (["--batch-size", "0"], "--batch-size: a batch can't have 0 samples"),
        (["--", "--epochs", "3"], "a saved model takes no arguments"),
    ],
)
def test_wrong_inputs_are_refused(
    models: Path,
    tmp_path: Path,
    autotune_forked: ForkedCommand,
    more: list[str],
    message: str | None,
) -> None:
    """A wrong name, a wrong rank, a wrong size."""
    line = ["run", "--model", str(models / "model.keras"), "--trials", "1"]
    at = more.index("--") if "--" in more else len(more)
    done = autotune_forked(*line, *QUICK, *more[:at], *more[at:], cwd=tmp_path)
    assert done.returncode == 1
    if message is not None:
        assert message in done.stderr


def test_sizes_are_for_saved_models(tmp_path: Path, autotune_forked: ForkedCommand) -> None:
    """A script takes its own arguments."""
    (tmp_path / "train.py").write_text("import tensorflow\n")
    done = autotune_forked("run", "--model", "train.py", "--batch-size", "4", cwd=tmp_path)
    assert done.returncode == 1
    assert "--batch-size and --shape are for saved models" in done.stderr
