"""The recipes in deploy/: each against its schema, and the commands in them for real."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dockerfile_parse
import pytest
import yaml
from typer.testing import CliRunner

from autotuner.cli.app import app

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def tool(name: str) -> str:
    """Return a checker that was installed beside this interpreter."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def test_the_dockerfile() -> None:
    """hadolint has nothing to say, and it ends as a user without privileges."""
    path = DEPLOY / "Dockerfile"
    done = subprocess.run(
        [tool("hadolint"), str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""
    parsed = dockerfile_parse.DockerfileParser(str(path))
    users = [one["value"] for one in parsed.structure if one["instruction"] == "USER"]
    assert users == ["tuner"]
    tree = DEPLOY.parent
    for one in parsed.structure:
        if one["instruction"] == "COPY":
            for source in one["value"].split()[:-1]:
                assert (tree / source).exists(), source


def test_compose_fits_its_schema() -> None:
    """The specification's own schema."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = pytest.importorskip("compose_spec")
    jsonschema.validate(compose(), schema.load_schema())


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_manifests_fit_their_schemas(path: Path) -> None:
    """Kubernetes' own schemas, strictly."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in documents(path):
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_workers_have_their_node_to_themselves() -> None:
    """One pod a node, whole CPUs, requests as limits: that is what makes CPUs a pod's own."""
    jobs = [d for d in documents(DEPLOY / "kubernetes" / "study.yaml") if d["kind"] == "Job"]
    assert len(jobs) == 2
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        rule = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert rule[0]["topologyKey"] == "kubernetes.io/hostname"
        assert rule[0]["labelSelector"]["matchLabels"].items() <= (
            job["spec"]["template"]["metadata"]["labels"].items()
        )
        (container,) = pod["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"]["cpu"].isdecimal()


def test_the_script_for_slurm() -> None:
    """shellcheck has nothing to say."""
    script = str(DEPLOY / "slurm.sh")
    done = subprocess.run([tool("shellcheck"), script], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(("task", "command"), [("0", "run"), ("3", "worker")])
def test_what_slurm_s_tasks_run(tmp_path: Path, task: str, command: str) -> None:
    """The first begins, the others join; arguments arrive as they are."""
    stub = tmp_path / "autotune"
    stub.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    stub.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "AUTOTUNE_STORAGE": "postgresql://x",
        "SLURM_ARRAY_TASK_ID": task,
    }
    done = subprocess.run(
        [str(DEPLOY / "slurm.sh"), "my train.py", "--data", "a b"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[:5] == [command, "--model", "my train.py", "--study", "my train"]
    assert words[words.index("--") + 1 :] == ["--data", "a b"]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command line in the recipes that is one of ours."""
    for name, service in compose()["services"].items():
        if "command" in service:
            yield f"compose {name}", list(service["command"])
    for path in MANIFESTS:
        for document in documents(path):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", ()):
                if "args" in container:
                    yield f"{path.name} {document['kind']}", list(container["args"])


@pytest.mark.parametrize(("where", "words"), list(commands()), ids=lambda value: str(value)[:40])
def test_commands_are_ours(where: str, words: list[str]) -> None:
    """Every option in a recipe is one that its command has."""
    shown = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, where
    for word in words[1:]:
        if word.startswith("--"):
            assert word in shown.output, (where, word)


def test_secrets_are_not_in_the_recipes() -> None:
    """Passwords and tokens come from the environment or a secret."""
    text = json.dumps([compose(), *(d for path in MANIFESTS for d in documents(path))])
    assert "POSTGRES_PASSWORD:?" in text
    for path in MANIFESTS:
        for document in documents(path):
            for container in _containers(document):
                for variable in container.get("env", ()):
                    if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "STORAGE")):
                        assert "secretKeyRef" in variable["valueFrom"]


def _containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    return list(pod.get("containers", ()))
