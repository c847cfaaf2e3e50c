"""The exported files and what they say."""

import ast
import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import dockerfile_parse
import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
    text_format,
    wrappers_pb2,
)

from autotuner.errors import UserError
from autotuner.export.content import Export, code_settings, export_of
from autotuner.export.deployment import (
    render_batching,
    render_dockerfile,
    render_kubernetes,
    render_serving,
    render_systemd,
)
from autotuner.export.formats import (
    FILE_NAMES,
    RENDERERS,
    Format,
    render_env,
    render_json,
    render_python,
    write_files,
)
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import AS_WRITTEN, Configuration
from autotuner.options.study_spec import StudySpec
from autotuner.statistics.sequential import Verdict
from autotuner.statistics.throughput import Unit
from autotuner.study.identity import identify
from autotuner.study.space import make_space
from autotuner.trial.outcome import Notice
from autotuner.verdict.decision import Candidate
from autotuner.verdict.numerics import Numerics
from autotuner.verdict.result import Result
from tests.unit.results import BUILD, FASTER, HERE, a_decision, a_result, decided

BEST: Configuration = {
    "intra_op": 2,
    "inter_op": 1,
    "map_parallelism": "AUTOTUNE",
    "prefetch_depth": "4",
    "data_threads": AS_WRITTEN,
    "onednn": "0",
    "kmp_affinity": "granularity=fine,compact,1,0",
}


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """Return the result of a study with odd names in it."""
    script = tmp_path / "tr'ain $(touch hacked).py"
    script.touch()
    plain = a_result(tmp_path)
    facts = dataclasses.replace(
        plain.facts,
        identity=identify(StudySpec(model=script, arguments=("--x\nrm -rf /",)), HERE, BUILD),
        space=make_space(tuple(BEST), machine=HERE, build=BUILD),
        unit=Unit.SAMPLES,
        notices=(
            Notice(
                kind="override",
                where="train.py:3",
                text="calls set_x(1)",
                knob="intra_op",
                value="1",
            ),
            Notice(kind="map_randomness", where="train.py:9", text="draws"),
        ),
    )
    decision = a_decision(
        BEST, facts.space.default, numerics=Numerics(differs=True, text="results change a bit")
    )
    return dataclasses.replace(plain, facts=facts, records=(), decision=decision)


def best_of(result: Result, configuration: Configuration) -> Export:
    """Return the export of a result with another best configuration."""
    best = Candidate(configuration=configuration, gain=1.3, trials=2)
    return export_of(decided(result, best=best), anyway=False)


@pytest.fixture
def export(result: Result) -> Export:
    """Return what is exported of it."""
    return export_of(result, anyway=False)


def sourced(text: str, tmp_path: Path) -> dict[str, str]:
    """Return the variables that a shell has after sourcing a text."""
    file = tmp_path / "best.env"
    file.write_text(text)
    shell = subprocess.run(
        ["sh", "-c", '. "$0"; env -0', file], capture_output=True, env={}, cwd=tmp_path, check=True
    )
    items = shell.stdout.decode().split("\0")
    return {item.partition("=")[0]: item.partition("=")[2] for item in items if item}


def test_a_shell_reads_every_value(export: Export, tmp_path: Path) -> None:
    """All knobs of the study are set, explicitly, and nothing else happens."""
    variables = sourced(render_env(export), tmp_path)
    assert {name: variables[KNOBS[name].variable] for name in BEST} == {
        name: str(value) for name, value in BEST.items()
    }
    assert not list(tmp_path.glob("hacked*"))


@pytest.mark.parametrize("render", [render_env, render_python])
def test_the_files_say_where_they_come_from(export: Export, render: object) -> None:
    """Model, machine, versions, date, study, result, and lines to remove stand in the comments."""
    text = render(export)  # type: ignore[operator]
    for part in (
        "tr'ain",
        "2.21.0",
        "2026-11-23",
        "study: s",
        "1.25x",
        "train.py:3",
        "train.py:9",
        "results change",
        "break-even",
    ):
        assert part in text
    assert "\nrm -rf" not in text


def test_the_module_is_python(export: Export) -> None:
    """best.py is valid back to Python 3.9, imports nothing of ours, and applies tf.data knobs."""
    text = render_python(export)
    ast.parse(text, feature_version=(3, 9))
    assert "import autotuner" not in text
    assert "apply_data_settings(map_parallelism='AUTOTUNE', prefetch_depth=4)" in text
    assert "'TF_NUM_INTRAOP_THREADS': '2'" in text


def test_without_data_knobs_the_module_is_short(result: Result) -> None:
    """Nothing is patched where nothing is to be changed."""
    plain: Configuration = {"intra_op": 2, "map_parallelism": AS_WRITTEN}
    text = render_python(best_of(result, plain))
    assert "def " not in text
    assert code_settings(plain) == {}


def test_json_holds_everything(export: Export) -> None:
    """best.json has a schema number, the configuration and its provenance."""
    document = json.loads(render_json(export))
    assert document["schema"] == 2
    assert document["configuration"] == BEST
    assert document["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert document["result"]["speed_up"]["ratio"] == 1.25
    assert document["result"]["verdict"] == "FASTER"
    assert document["result"]["payback"]["break_even_s"] == pytest.approx(3000)
    assert document["holds"] == "best"
    assert document["model"]["tensorflow"] == "2.21.0"


@pytest.mark.parametrize("anyway", [False, True])
@pytest.mark.parametrize("verdict", [*Verdict, None])
def test_the_files_follow_the_verdict(
    result: Result, verdict: Verdict | None, anyway: bool
) -> None:
    """Unless the best is proven, the files hold TensorFlow's defaults and say why; or say so."""
    finding = None
    if verdict is not None:
        finding = dataclasses.replace(FASTER, verdict=verdict, low=0.99, ratio=1.01)
    changed = export_of(decided(result, finding=finding), anyway=anyway)
    proven = verdict is Verdict.FASTER
    text = render_env(changed)
    assert json.loads(render_json(changed))["holds"] == ("best" if proven or anyway else "default")
    assert ("export TF_NUM_INTRAOP_THREADS=4" in text) is not (proven or anyway)
    assert ("Keep the defaults" in text) is not proven
    assert ("exported anyway" in text) is (anyway and not proven)
    if verdict is not None:
        assert verdict.value in text


def test_files_are_written_whole(export: Export, tmp_path: Path) -> None:
    """All formats are there and no draft is left."""
    folder = tmp_path / "out"
    paths = write_files(folder, export)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILE_NAMES.values())
    assert [path.name for path in paths] == [
        FILE_NAMES[kind] for kind in (Format.ENV, Format.PYTHON, Format.JSON)
    ]


ODD: Configuration = {
    **BEST,
    "allocator": "/opt/odd path/lib$x%1\\.so",
    "cpus": "0-1",
    "steps_per_execution": "8",
    "auto_jit": "on",
}


@pytest.fixture
def odd(result: Result) -> Export:
    """Return an export whose values hold characters that shells, systemd and YAML interpret."""
    return best_of(result, ODD)


def expected() -> dict[str, str]:
    """Return the variables that deployments are to have."""
    return {
        "TF_NUM_INTRAOP_THREADS": "2",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_DISABLE_MKL": "1",
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
        "LD_PRELOAD": str(ODD["allocator"]),
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    }


def test_env_preloads_in_front_of_what_is_there(odd: Export, tmp_path: Path) -> None:
    """A library that the environment preloads stays; without one there is no colon."""
    (tmp_path / "best.env").write_text(render_env(odd))
    for before, after in (("libz.so.1", ":libz.so.1"), ("", "")):
        script = f'LD_PRELOAD={before}; . ./best.env; echo "$LD_PRELOAD"'
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == f"{ODD['allocator']}{after}\n", done.stderr


def test_kubernetes(odd: Export, tmp_path: Path) -> None:
    """A YAML parser reads a patch with CPUs and variables; kubectl merges it into a deployment."""
    text = render_kubernetes(odd)
    container = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"][0]
    assert {entry["name"]: entry["value"] for entry in container["env"]} == expected()
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"cpu": "4"}
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: the patch was parsed but not merged")
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "model"},
        "spec": {
            "selector": {"matchLabels": {"app": "model"}},
            "template": {
                "metadata": {"labels": {"app": "model"}},
                "spec": {"containers": [{"name": "serve", "image": "model:1"}]},
            },
        },
    }
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment))
    (tmp_path / "patch.yaml").write_text(text.replace("CONTAINER", "serve"))
    line = [kubectl, "patch", "--local", "-f", "deployment.yaml", "--patch-file", "patch.yaml"]
    done = subprocess.run([*line, "-o", "yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    merged = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in merged] == ["serve"]
    assert merged[0]["image"] == "model:1"
    assert {entry["name"]: entry["value"] for entry in merged[0]["env"]} == expected()


def test_systemd(odd: Export, tmp_path: Path) -> None:
    """systemd itself accepts the drop-in, and shows the values as they were."""
    text = render_systemd(odd)
    values = re.findall(r'^Environment="(.*)"$', text, re.MULTILINE)
    assert len(values) == len(expected())
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "model.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    folder = tmp_path / "model.service.d"
    folder.mkdir()
    (folder / "autotune.conf").write_text(text)
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "autotune.conf" not in done.stderr
    (folder / "autotune.conf").write_text(text.replace('Environment="', 'Environment="=', 1))
    broken = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    assert "autotune.conf" in broken.stderr  # it does read the drop-in


def test_dockerfile(odd: Export, tmp_path: Path) -> None:
    """A parser of Dockerfiles reads the ENV instructions back."""
    parser = dockerfile_parse.DockerfileParser(path=str(tmp_path))
    parser.content = "FROM scratch\n" + render_dockerfile(odd)
    assert dict(parser.envs) == expected()


BATCHING = (
    "max_batch_size",
    "batch_timeout_micros",
    "num_batch_threads",
    "max_enqueued_batches",
)


def batching_message() -> "message.Message":
    """Return TensorFlow Serving's BatchingParameters, as its session_bundle_config.proto has it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="session_bundle_config.proto",
        package="tensorflow.serving",
        dependency=["google/protobuf/wrappers.proto"],
        syntax="proto3",
    )
    kind = file.message_type.add(name="BatchingParameters")
    for tag, name in zip((1, 2, 4, 3), BATCHING, strict=True):
        kind.field.add(
            name=name,
            number=tag,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            type_name=".google.protobuf.Int64Value",
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    found = pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    return message_factory.GetMessageClass(found)()


def test_serving(result: Result, tmp_path: Path) -> None:
    """Flags for two of the three pools, and a batching file that protocol buffers can read."""
    with pytest.raises(UserError, match="takes a SavedModel"):
        render_serving(export_of(result, anyway=False))
    (tmp_path / "m").mkdir()
    (tmp_path / "m/saved_model.pb").touch()
    spec = StudySpec(model=tmp_path / "m", batch_size=16)
    facts = dataclasses.replace(result.facts, identity=identify(spec, HERE, BUILD))
    served = export_of(dataclasses.replace(result, facts=facts), anyway=False)
    flags = [line for line in render_serving(served).splitlines() if not line.startswith("#")]
    assert flags == [
        "--tensorflow_intra_op_parallelism=2",
        "--tensorflow_inter_op_parallelism=1",
        "--enable_batching=true",
        "--batching_parameters_file=best.batching",
    ]
    assert "TF_ENABLE_ONEDNN_OPTS=0" in render_serving(served)
    parsed: Any = text_format.Parse(render_batching(served), batching_message())
    assert [getattr(parsed, name).value for name in BATCHING] == [16, 0, 4, 16]


@pytest.mark.parametrize("kind", list(Format))
def test_every_format_states_the_settings_and_the_verdict(result: Result, kind: Format) -> None:
    """A format is in the table, and its files hold the header; those of a SavedModel too."""
    folder = result.facts.folder
    (folder / "m").mkdir()
    (folder / "m/saved_model.pb").touch()
    identity = dataclasses.replace(result.facts.identity, model=str(folder / "m"))
    facts = dataclasses.replace(result.facts, identity=identity)
    export = export_of(dataclasses.replace(result, facts=facts), anyway=False)
    text = RENDERERS[kind](export)
    assert "FASTER: 1.25x" in text
    assert "intra_op" in text


def test_only_notices_that_concern_the_file_are_in_its_header(result: Result) -> None:
    """A line to remove, another order of random draws, a short measurement; nothing else."""
    notices = (
        Notice(kind="short", where="", text="measured for 2 s only"),
        Notice(kind="other", where="train.py:1", text="of no concern"),
    )
    facts = dataclasses.replace(result.facts, notices=notices)
    text = render_env(export_of(dataclasses.replace(result, facts=facts), anyway=False))
    assert "# note: measured for 2 s only" in text
    assert "of no concern" not in text
