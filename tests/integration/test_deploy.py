"""The recipes in deploy/: each against its schema, and one real run of each.

There is no Docker and no Kubernetes here. The tests start what these would start: the commands,
environments, health checks and working directories of the recipes, against a real PostgreSQL, with
a stub of TensorFlow. A real Slurm runs its recipe where one is installed.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dockerfile_parse
import psycopg
import pytest
import typer
import yaml

import autotuner
from autotuner.cli.app import app
from autotuner.testing import postgres
from tests.another_user import NOBODY, WHY_NOT, open_folder
from tests.integration import slurm
from tests.integration.deployed import PASSWORD, PATIENCE_S, Site

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TREE = DEPLOY.parent
COMPOSE, SLURM = DEPLOY / "compose.yaml", DEPLOY / "slurm.sh"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.31"
OWN_IMAGE = f"autotune:{autotuner.__version__}"
TOKEN = "a-token-of-the-test"
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def document(path: str, kind: str, name: str) -> dict[str, Any]:
    """Return one of Kubernetes' manifests."""
    found = documents(DEPLOY / "kubernetes" / path)
    return next(d for d in found if d["kind"] == kind and d["metadata"]["name"] == name)


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the specification of every pod."""
    for path in MANIFESTS:
        for one in documents(path):
            template = one.get("spec", {}).get("template")
            if template is not None:
                yield f"{path.name} {one['metadata']['name']}", template["spec"]


def compose(**variables: str) -> dict[str, Any]:
    """Return the Compose file's services, with ``${NAME:-default}`` and ``${NAME:?message}``."""

    def value(found: "re.Match[str]") -> str:
        name, sign, rest = found[1], found[2], found[3]
        given = variables.get(name, "")
        if not given and sign == ":?":
            raise ValueError(f"{name}: {rest}")
        return given or (rest if sign == ":-" else "")

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(one) for key, one in node.items()}
        if isinstance(node, list):
            return [filled(one) for one in node]
        if not isinstance(node, str):
            return node
        return re.sub(r"\$\{(\w+)(:-|:\?)?([^}]*)\}", value, node)

    services: dict[str, Any] = filled(yaml.safe_load(COMPOSE.read_text()))["services"]
    return services


def dockerfile() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions."""
    parsed = dockerfile_parse.DockerfileParser(str(DEPLOY / "Dockerfile")).structure
    return [(one["instruction"], one["value"]) for one in parsed]


def value_of(instruction: str) -> str:
    """Return the last value of one of the Dockerfile's instructions."""
    return [value for name, value in dockerfile() if name == instruction][-1]


# ---- checked against their schemas


@pytest.mark.parametrize(
    ("checker", "output"),
    [
        (("hadolint", DEPLOY / "Dockerfile"), ""),
        (("shellcheck", SLURM), ""),
        (
            ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE),
            "ok -- validation done\n",
        ),
    ],
    ids=["Dockerfile", "slurm.sh", "compose.yaml"],
)
def test_checkers_find_nothing(checker: tuple[str | Path, ...], output: str) -> None:
    """hadolint, which also checks shell commands, shellcheck, and Compose's own schema."""
    program, *words = map(str, checker)
    found = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([found, *words], capture_output=True, text=True, timeout=120)
    assert done.stdout + done.stderr == output


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_manifests_fit_their_schemas(path: Path) -> None:
    """Kubernetes' own schemas, strictly: a mistyped key does not fit them."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for one in documents(path):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        wrong = {**one, "spec": {**one["spec"], "mistyped": 1}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


# ---- what they have to hold


def test_images_are_pinned() -> None:
    """The same image today and next year; ours is of this version."""
    services = compose(POSTGRES_PASSWORD="x").values()
    images = {service["image"] for service in services}
    images |= {container["image"] for _, pod in pods() for container in pod["containers"]}
    ours = {image for image in images if image.startswith("autotune")}
    assert ours == {OWN_IMAGE}
    for image in (images - ours) | {value_of("FROM")}:
        assert re.fullmatch(r"\w+:\d+(\.\d+)+-[a-z-]+", image), image
    assert OWN_IMAGE in (DEPLOY / "Dockerfile").read_text()
    for build in (service["build"] for service in services if "build" in service):
        place = (DEPLOY / build["context"]).resolve()
        assert place == TREE
        assert (place / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_nothing_runs_as_root() -> None:
    """Neither ours nor the database; nothing can become root, nothing has a capability."""
    # as a number, which Kubernetes can tell from root
    assert [value for name, value in dockerfile() if name == "USER"] == ["1000:1000"]
    made = next(value for name, value in dockerfile() if "useradd" in value)
    assert "useradd --create-home --uid 1000 --user-group tuner" in made
    for name, service in compose(POSTGRES_PASSWORD="x").items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("user") == ("postgres" if name == "db" else None), name
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_secrets_are_not_in_the_recipes() -> None:
    """Passwords and tokens come from the environment or a secret, never on a command line."""
    with pytest.raises(ValueError, match="POSTGRES_PASSWORD: set it"):
        compose()
    secret = "s3cret"
    services = compose(POSTGRES_PASSWORD=secret, AUTOTUNE_DASHBOARD_TOKEN=secret)
    for name, service in services.items():
        assert secret in str(service.pop("environment")), name
        assert secret not in str(service), name
    held = set()
    for name, pod in pods():
        for container in pod["containers"]:
            words = [*container.get("args", ()), *container.get("command", ())]
            assert not any("token" in word or "storage" in word for word in words), name
            for variable in container["env"]:
                if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "STORAGE")):
                    source = variable["valueFrom"]["secretKeyRef"]
                    held.add(source["key"])
                    assert source["name"] == "autotune"
    assert held == {"password", "storage", "dashboard-token"}
    described = (DEPLOY / "kubernetes" / "postgres.yaml").read_text()
    assert all(f"#   {key}=" in described for key in held)


def test_workers_have_their_node_to_themselves() -> None:
    """One pod a node, whole CPUs, requests as limits: that is what makes CPUs a pod's own."""
    jobs = [d for d in documents(DEPLOY / "kubernetes" / "study.yaml") if d["kind"] == "Job"]
    templates = [job["spec"]["template"] for job in jobs]
    assert len(templates) == 2
    for job, template in zip(jobs, templates, strict=True):
        affinity = template["spec"]["affinity"]["podAntiAffinity"]
        (rule,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
        assert rule["topologyKey"] == "kubernetes.io/hostname"
        wanted = rule["labelSelector"]["matchLabels"]
        assert wanted.items() <= template["metadata"]["labels"].items()
        (container,) = template["spec"]["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"]["cpu"].isdecimal()
        # a study knows its machines by name, which a pod that is made anew must keep
        assert job["spec"]["completionMode"] == "Indexed"
    first, second = (template["spec"] for template in templates)
    assert first["nodeSelector"] == second["nodeSelector"]
    assert first["containers"][0]["resources"] == second["containers"][0]["resources"]


def test_what_belongs_together_in_kubernetes() -> None:
    """Services find their pods at the ports these listen on, the policy lets clients in."""
    for path, kind, name in (
        ("postgres.yaml", "StatefulSet", "autotune-db"),
        ("dashboard.yaml", "Deployment", "autotune-dashboard"),
    ):
        owner, service = document(path, kind, name), document(path, "Service", name)
        labels = owner["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"] == owner["spec"]["selector"]["matchLabels"] == labels
        (port,) = service["spec"]["ports"]
        (container,) = owner["spec"]["template"]["spec"]["containers"]
        assert {"containerPort": port["targetPort"]} in container["ports"]
        assert "readinessProbe" in container
    policy = document("postgres.yaml", "NetworkPolicy", "autotune-db")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"app": "autotune-db"}
    (let_in,) = policy["ingress"][0]["from"]
    clients = let_in["podSelector"]["matchExpressions"][0]["values"]
    assert clients == ["autotune", "autotune-dashboard"]


def test_commands_are_ours() -> None:
    """Every command line in the recipes is one of ours, as far as it can be parsed."""
    services = compose(POSTGRES_PASSWORD="x", AUTOTUNE_DASHBOARD_TOKEN=TOKEN)
    lines = [service["command"] for name, service in services.items() if name != "db"]
    containers = [container for _, pod in pods() for container in pod["containers"]]
    lines += [one["args"] for one in containers if one["image"] == OWN_IMAGE]
    group = typer.main.get_command(app)
    assert hasattr(group, "commands")
    for command, *words in lines:
        group.commands[command].make_context(command, list(words), obj=())
    names = sorted(command for command, *_ in lines)
    assert names == ["dashboard", "dashboard", "run", "run", "worker", "worker"]


# ---- run for real


def test_the_image_can_be_made_of_what_is_copied(tmp_path: Path) -> None:
    """Pip's command in it takes the tree that is copied, the constraints, and both extras."""
    pytest.importorskip("hatchling")
    source, report, target = (tmp_path / name for name in ("src", "report.json", "site"))
    source.mkdir()
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    left_out = shutil.ignore_patterns(*(i.removeprefix("**/") for i in ignored if "**" in i))
    copied = [value.split() for name, value in dockerfile() if name == "COPY"]
    sources = [(word, words[-1]) for words in copied for word in words[:-1]]
    assert {word for word, _ in sources} == {i[1:] for i in ignored if i.startswith("!")}
    for word, into in sources:
        if (TREE / word).is_dir():
            shutil.copytree(TREE / word, source / into, ignore=left_out)
        else:
            shutil.copy2(TREE / word, source / into)
    runs = [value for name, value in dockerfile() if name == "RUN"]
    (pip,) = (value for value in runs if value.startswith("pip install"))
    words = [word.strip("'") for word in pip.split()[1:]]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", f"--report={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *offline, f"--target={target}"],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr
    installed = yaml.safe_load(report.read_text())["install"][0]
    assert installed["metadata"]["version"] == autotuner.__version__
    assert installed["requested_extras"] == ["postgres", "service"]
    assert (target / "autotuner" / "child" / "entry.py").is_file()
    assert (target / "autotuner" / "_studies" / "mlp_train" / "mlp_train.py").is_file()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "autotuner", *yaml.safe_load(value_of("CMD"))],
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "worker" in done.stdout


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """Run a server with the database and the password of the recipes."""
    if not postgres.AVAILABLE:
        pytest.skip(postgres.REASON)
    with open_folder() as folder, postgres.running(folder) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE autotune")
            connection.execute(f"ALTER ROLE tuner PASSWORD '{PASSWORD}'")
        yield server


@pytest.fixture
def site(server: postgres.Server) -> Iterator[Site]:
    """Return a machine."""
    with open_folder() as folder:
        site = Site(folder, server)
        yield site
        site.close()


def fetch(url: str, **headers: str) -> tuple[int, str]:
    """Return an answer's status and body."""
    try:
        with _HTTP.open(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def on_port(words: list[str], port: str) -> list[str]:
    return [word.replace("8080", port) for word in words]


@pytest.mark.postgres
def test_what_compose_starts(site: Site) -> None:
    """Database, run and worker, dashboard: each by its command, environment and health check."""
    known = {"DB_HOST": "127.0.0.1", "SCRIPT": "train.py", "STUDY": "train"}
    services = compose(POSTGRES_PASSWORD=PASSWORD, AUTOTUNE_DASHBOARD_TOKEN=TOKEN, **known)
    entry = yaml.safe_load(value_of("ENTRYPOINT"))
    assert value_of("WORKDIR") == "/home/tuner/work"  # where volumes and Site.work are

    kind, *words = services["db"]["healthcheck"]["test"]
    assert kind == "CMD"
    found = [*Path("/usr/lib/postgresql").glob(f"*/bin/{words[0]}"), shutil.which(words[0])]
    program = str(next(path for path in found if path is not None))
    where = ["-h", "127.0.0.1", "-p", str(site.port)]
    subprocess.run([program, *words[1:], *where], check=True, stdout=subprocess.DEVNULL)

    started = {}
    for name in ("worker", "run"):
        words = [*entry, *services[name]["command"]]
        started[name] = site.start(words, services[name]["environment"], log=name)
        if name == "worker":
            site.until(name, started[name], "waiting for study train")
    for name, process in started.items():
        site.end(name, process)
    site.check("train")

    service, port = services["dashboard"], str(slurm.free_port())
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    words = on_port([*entry, *service["command"]], port)
    dashboard = site.start(words, service["environment"], log="dashboard")
    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD"
    deadline = time.monotonic() + PATIENCE_S
    while site.start(on_port(words, port), {}, log="health").wait(timeout=60) != 0:
        assert time.monotonic() < deadline, site.log("health")
    url = f"http://127.0.0.1:{port}/api/studies"
    assert fetch(url)[0] == 401
    status, body = fetch(url, Authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert '"train"' in body
    dashboard.send_signal(signal.SIGTERM)
    site.end("dashboard", dashboard)

    # the command of the file's first lines
    (line,) = re.findall(r"run --rm run (export .*)", COMPOSE.read_text())
    words = [*entry, *line.replace("mlp_train", "train").split()]
    site.end("export", site.start(words, services["run"]["environment"], log="export"))
    first = "# Settings for TensorFlow on the CPU, found by autotune\n"
    assert site.log("export").startswith(first)

    # on a machine with a worker no token is set, and Compose fills in nothing
    service = compose(POSTGRES_PASSWORD=PASSWORD, DB_HOST="127.0.0.1")["dashboard"]
    process = site.start(["autotune", *service["command"]], service["environment"], log="x")
    assert process.wait(timeout=PATIENCE_S) == 1
    assert "anyone who reaches it could change studies" in site.log("x")


@pytest.mark.postgres
def test_what_kubernetes_starts(site: Site) -> None:
    """The pods of both Jobs, and the dashboard with its readiness probe."""
    secret = {
        "password": PASSWORD,
        "storage": f"postgresql://tuner:{PASSWORD}@autotune-db:5432/autotune",
        "dashboard-token": TOKEN,
    }
    described = (DEPLOY / "kubernetes" / "postgres.yaml").read_text()
    assert f"storage={secret['storage'].replace(PASSWORD, 'PASSWORD')}\n" in described

    def begin(path: str, kind: str, name: str, port: str = "8080") -> "subprocess.Popen[str]":
        pod = document(path, kind, name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        keys = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"]}
        environment = {name: secret[key] for name, key in keys.items()}
        return site.start(["autotune", *on_port(container["args"], port)], environment, log=name)

    jobs = ("autotune-run", "autotune-workers")
    started = {name: begin("study.yaml", "Job", name) for name in jobs}
    for name, process in started.items():
        site.end(name, process)
    site.check("train")

    name, port = "autotune-dashboard", str(slurm.free_port())
    dashboard = begin("dashboard.yaml", "Deployment", name, port)
    site.until(name, dashboard, "Ctrl-C ends it")
    owner = document("dashboard.yaml", "Deployment", name)
    (container,) = owner["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    assert probe["port"] == 8080
    headers = {one["name"]: one["value"] for one in probe["httpHeaders"]}
    # the kubelet names the pod's address, under which the dashboard is not known
    assert fetch(f"http://127.0.0.1:{port}{probe['path']}", **headers)[0] == 200
    assert fetch(f"http://127.0.0.1:{port}{probe['path']}", Host="10.1.2.3")[0] == 403
    assert fetch(f"http://127.0.0.1:{port}/api/studies", **headers)[0] == 401
    dashboard.send_signal(signal.SIGTERM)
    site.end(name, dashboard)


@pytest.mark.postgres
@pytest.mark.skipif(
    not slurm.AVAILABLE,
    reason="no Slurm here that root could start: apt-get install slurmctld slurmd slurm-client",
)
def test_slurm_runs_the_array(site: Site) -> None:
    """A real Slurm starts two tasks, each on its own node; submitted again, they end at once."""
    script, study = str(site.models / "train.py"), {"AUTOTUNE_STORAGE": site.url, "STUDY": "slurm"}
    with open_folder() as folder, slurm.running(folder) as environment:
        for attempt in ("first", "again"):
            words = ["sbatch", "--parsable", "--array=0-1", str(SLURM), script]
            site.end(attempt, site.start(words, {**study, **environment}, log=attempt))
            slurm.wait_for_job(environment, site.log(attempt).strip())
    site.check("slurm")
    assert len(list((site.work / ".autotune").glob("studies/slurm*/study.json"))) == 1
    logs = sorted(site.work.glob("autotune-*.log"), key=lambda path: path.stat().st_ctime_ns)
    texts = {path.name.rpartition("-")[2]: path.read_text() for path in reversed(logs)}
    assert set(texts) == {"0.log", "1.log"}
    assert "study slurm: train.py on" in texts["0.log"]
    assert "joined study slurm: train.py on" in texts["1.log"]
    if not WHY_NOT:
        assert {path.owner() for path in logs} == {NOBODY}


@pytest.mark.parametrize(
    ("task", "known", "command"), [("0", "1", "run"), ("0", "0", "worker"), ("3", "1", "worker")]
)
def test_what_slurm_s_tasks_run(tmp_path: Path, task: str, known: str, command: str) -> None:
    """The first begins a study that is not known yet, the others join; arguments stay whole."""
    stub = tmp_path / "autotune"
    stub.write_text(
        '#!/bin/sh\n[ "$1" = show ] && exit "$KNOWN"\nfor word; do printf "%s\\n" "$word"; done\n'
    )
    stub.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "AUTOTUNE_STORAGE": "postgresql://x",
        "SLURM_ARRAY_TASK_ID": task,
        "KNOWN": known,
    }

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        argv = [str(SLURM), *arguments]
        return subprocess.run(argv, env={**environment, **more}, capture_output=True, text=True)

    words = run("my train.py", "--data", "a b").stdout.splitlines()
    assert words[:5] == [command, "--model", "my train.py", "--study", "my train"]
    assert words[words.index("--") + 1 :] == ["--data", "a b"]
    for done, missing in (
        (run("train.py", AUTOTUNE_STORAGE=""), "AUTOTUNE_STORAGE"),
        (run(), "script"),
    ):
        assert done.returncode != 0
        assert missing in done.stderr
