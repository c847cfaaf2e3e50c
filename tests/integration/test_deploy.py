"""The recipes in deploy/: each against its schema, and what is in them run for real.

There is no Docker, Kubernetes or Slurm here. What these would start is started by the tests, with
the commands, environments, health checks and working directories of the recipes, against a real
PostgreSQL; TensorFlow is stubbed, so that a trial takes a second.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dockerfile_parse
import psycopg
import pytest
import typer
import yaml

import autotuner
from autotuner.cli.app import app
from autotuner.study.record import read_records
from autotuner.study.storage import open_database
from autotuner.study.studies import load_study
from autotuner.testing import postgres
from tests.another_user import AS_NOBODY, NOBODY, PACKAGES, PYTHON, WHY_NOT, open_folder
from tests.commands import SCRIPT, STUB
from tests.processes import left_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TREE = DEPLOY.parent
COMPOSE = DEPLOY / "compose.yaml"
SLURM = DEPLOY / "slurm.sh"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.31"
OWN_IMAGE = f"autotune:{autotuner.__version__}"
PASSWORD = "letters4and4digits"  # of the test's own server
TOKEN = "a-token-of-the-test"
_PATIENCE_S = 120
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# what the tests add to `autotune run`, for whose usual budget there is no time
BRIEF = (
    *("--effort", "fast", "--trials", "2", "--measure-time", "0.2s", "--pairs", "1"),
    *("--knobs", "intra_op,kernels", "--sequential"),
)


def tool(name: str) -> str:
    """Return a checker that was installed beside this interpreter."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def said_by(*command: str | Path) -> str:
    """Return everything that a checker says."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


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


def interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    """Fill in variables as Compose does: ``${NAME:-default}`` and ``${NAME:?message}``.

    In the values of what the file says, not in its text.
    """
    if isinstance(node, dict):
        return {key: interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, variables) for value in node]
    if not isinstance(node, str):
        return node

    def value(found: "re.Match[str]") -> str:
        name, sign, rest = found[1], found[2], found[3]
        given = variables.get(name, "")
        if not given and sign == ":?":
            raise ValueError(f"{name}: {rest}")
        return given or (rest if sign == ":-" else "")

    return re.sub(r"\$\{(\w+)(:-|:\?)?([^}]*)\}", value, node)


def compose(**variables: str) -> dict[str, Any]:
    """Return the Compose file's services, with variables filled in."""
    services: dict[str, Any] = interpolated(yaml.safe_load(COMPOSE.read_text()), variables)[
        "services"
    ]
    return services


def dockerfile() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions."""
    parsed = dockerfile_parse.DockerfileParser(str(DEPLOY / "Dockerfile")).structure
    return [(one["instruction"], one["value"]) for one in parsed]


def value_of(instruction: str) -> str:
    """Return the last value of one of the Dockerfile's instructions."""
    return [value for name, value in dockerfile() if name == instruction][-1]


# ---- checked against their schemas


def test_the_dockerfile() -> None:
    """hadolint, which looks into its commands, too, has nothing to say."""
    assert said_by(tool("hadolint"), DEPLOY / "Dockerfile") == ""


def test_hadolint_would_say(tmp_path: Path) -> None:
    """It sees what is wrong with an image without a tag, and in a command."""
    bad = (DEPLOY / "Dockerfile").read_text().replace(value_of("FROM"), "python")
    (tmp_path / "Dockerfile").write_text(bad.replace("&& rm -rf", "&& cd /x; rm -rf"))
    said = said_by(tool("hadolint"), tmp_path / "Dockerfile")
    assert "DL3006" in said
    assert "DL3003" in said


def test_compose_fits_its_schema(tmp_path: Path) -> None:
    """Compose's own schema, which check-jsonschema brings; a mistyped key would not fit it."""
    check = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    assert said_by(*check, COMPOSE) == "ok -- validation done\n"
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("depends_on:", "depend_on:"))
    assert "'depend_on' was unexpected" in said_by(*check, wrong)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_manifests_fit_their_schemas(path: Path) -> None:
    """Kubernetes' own schemas, strictly: a mistyped key would not fit them."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for one in documents(path):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        wrong = {**one, "spec": {**one["spec"], "mistyped": 1}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_the_script_for_slurm(tmp_path: Path) -> None:
    """shellcheck has nothing to say, of the recipe; it has of one with a quote left out."""
    assert said_by(tool("shellcheck"), SLURM) == ""
    wrong = tmp_path / "slurm.sh"
    wrong.write_text(SLURM.read_text().replace('--study "$study"', "--study $study"))
    assert "SC2086" in said_by(tool("shellcheck"), wrong)


def test_slurm_s_own_sbatch_knows_the_options(tmp_path: Path) -> None:
    """It reads them before it looks for a controller, which there is not."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        pytest.skip("sbatch is not installed: apt-get install slurm-client")
    (tmp_path / "slurm.conf").write_text(
        "ClusterName=x\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=9\nAuthType=auth/none\n"
        "CredType=cred/none\nMessageTimeout=1\nNodeName=x\nPartitionName=x Nodes=x\n"
    )
    wrong = tmp_path / "wrong.sh"
    wrong.write_text(SLURM.read_text().replace("--exclusive", "--exclusively"))
    said = {}
    for script in (SLURM, wrong):
        done = subprocess.run(
            [sbatch, "--test-only", str(script), "train.py"],
            env={**os.environ, "SLURM_CONF": str(tmp_path / "slurm.conf")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        said[script] = done.stderr
    assert "unrecognized option" in said[wrong]
    assert (
        said[SLURM] == "allocation failure: Unable to contact slurm controller (connect failure)\n"
    )


# ---- what they have to hold


def test_images_are_pinned() -> None:
    """The same image today and next year; ours is of this version."""
    images = {service["image"] for service in compose(POSTGRES_PASSWORD="x").values()}
    images |= {container["image"] for _, pod in pods() for container in pod["containers"]}
    ours = {image for image in images if image.startswith("autotune")}
    assert ours == {OWN_IMAGE}
    for image in (images - ours) | {value_of("FROM")}:
        assert re.fullmatch(r"\w+:\d+(\.\d+)+-[a-z-]+", image), image
    assert OWN_IMAGE in (DEPLOY / "Dockerfile").read_text()
    for service in compose(POSTGRES_PASSWORD="x").values():
        if "build" in service:
            place = (DEPLOY / service["build"]["context"]).resolve()
            assert place == TREE
            assert (place / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_nothing_runs_as_root() -> None:
    """Neither ours nor the database; nothing can become root, nothing has a capability."""
    # as a number, which Kubernetes can tell from root
    assert [value for name, value in dockerfile() if name == "USER"] == ["1000:1000"]
    made = next(value for name, value in dockerfile() if "useradd" in value)
    assert "useradd --create-home --uid 1000 --user-group tuner" in made
    for name, service in compose(POSTGRES_PASSWORD="x").items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        user = service.get("user")
        assert user == "postgres" if name == "db" else user is None, name
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
    told = (DEPLOY / "kubernetes" / "postgres.yaml").read_text()
    assert all(f"#   {key}=" in told for key in held)


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
        # a study knows its machines by name, which a pod that is made anew must keep
        assert job["spec"]["completionMode"] == "Indexed"
    same = [job["spec"]["template"]["spec"] for job in jobs]
    assert same[0]["nodeSelector"] == same[1]["nodeSelector"]
    assert same[0]["containers"][0]["resources"] == same[1]["containers"][0]["resources"]


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


def parse(command: str, words: list[str]) -> None:
    """Have a command line read by the command; it raises for what it does not know."""
    group = typer.main.get_command(app)
    assert hasattr(group, "commands")
    group.commands[command].make_context(command, words, obj=())


def test_commands_are_ours() -> None:
    """Every command line in the recipes is one of ours, as far as it can be read."""
    seen = []
    services = compose(POSTGRES_PASSWORD="x", AUTOTUNE_DASHBOARD_TOKEN=TOKEN)
    for name, service in services.items():
        if name != "db":
            parse(service["command"][0], service["command"][1:])
            seen.append(service["command"][0])
    for _, pod in pods():
        for container in pod["containers"]:
            if container["image"] == OWN_IMAGE:
                parse(container["args"][0], container["args"][1:])
                seen.append(container["args"][0])
    assert sorted(seen) == ["dashboard", "dashboard", "run", "run", "worker", "worker"]


# ---- run for real


def copy_for_the_image(folder: Path) -> None:
    """Copy into a folder what the Dockerfile copies, all of which is sent to build the image."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = [value.split() for name, value in dockerfile() if name == "COPY"]
    assert {word for words in copied for word in words[:-1]} == sent
    left_out = shutil.ignore_patterns(
        *(line.removeprefix("**/") for line in ignored if "**" in line)
    )
    for *sources, target in copied:
        for source in sources:
            if (TREE / source).is_dir():
                shutil.copytree(TREE / source, folder / target, ignore=left_out)
            else:
                shutil.copy2(TREE / source, folder / target)


def test_the_image_can_be_made_of_what_is_copied(tmp_path: Path) -> None:
    """Pip's command in it takes the tree that is copied, the constraints, and both extras."""
    pytest.importorskip("hatchling")
    runs = [value for name, value in dockerfile() if name == "RUN"]
    (pip,) = (value for value in runs if value.startswith("pip install"))
    words = [word.strip("'") for word in pip.split()[1:]]
    source, report = tmp_path / "src", tmp_path / "report.json"
    source.mkdir()
    copy_for_the_image(source)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--report", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *offline, "--target", str(tmp_path / "site")],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr
    asked = yaml.safe_load(report.read_text())["install"][0]
    assert asked["metadata"]["version"] == autotuner.__version__
    assert asked["requested_extras"] == ["postgres", "service"]
    there = tmp_path / "site" / "autotuner"
    assert (there / "child" / "entry.py").is_file()
    assert (there / "_studies" / "mlp_train" / "mlp_train.py").is_file()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "autotuner", *yaml.safe_load(value_of("CMD"))],
        env={**os.environ, "PYTHONPATH": str(there.parent)},
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


class Site:
    """A machine on which a recipe's commands are run, not as root, as in its containers."""

    def __init__(self, folder: Path, server: postgres.Server) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.work = folder / "work"
        self.bin = folder / "bin"
        self.mark = uuid.uuid4().hex
        self.port = server.port
        self._started: list[subprocess.Popen[str]] = []
        for path in (self.models, self.work, self.bin):
            path.mkdir()
        (self.models / "train.py").write_text(SCRIPT)
        # what the image's ENTRYPOINT names; a study takes its usual time but for this
        command = self.bin / "autotune"
        command.write_text(
            "#!/bin/sh\ncommand=$1\nshift\n"
            f'[ "$command" = run ] && set -- {" ".join(BRIEF)} "$@"\n'
            f'exec {PYTHON} -m autotuner "$command" "$@"\n'
        )
        command.chmod(0o755)
        (self.bin / "python").symlink_to(PYTHON)
        # where root's interpreter and checkout are closed to others, it has to be root
        self._as_whom = {} if WHY_NOT else AS_NOBODY
        if self._as_whom:
            shutil.chown(self.work, NOBODY)

    def here(self, text: str) -> str:
        """Return a text of a recipe with the places and the port that these things have here."""
        places = {
            "/home/tuner/models": str(self.models),
            "/home/tuner/work": str(self.work),
            "/models": str(self.models),
            "@autotune-db:5432": f"@127.0.0.1:{self.port}",
            ":5432": f":{self.port}",
        }
        for there, here in places.items():
            if there in text and here not in text:
                text = text.replace(there, here)
        return text

    def start(
        self, words: list[str], environment: Mapping[str, str], *, log: str
    ) -> "subprocess.Popen[str]":
        """Start a command line of a recipe, with nothing of our environment but what it needs."""
        variables = {name: self.here(str(value)) for name, value in environment.items()}
        with (self.folder / f"{log}.log").open("wb") as output:
            process = subprocess.Popen(
                [self.here(word) for word in words],
                cwd=self.work,
                env={
                    "PATH": f"{self.bin}:/usr/bin:/bin",
                    "PYTHONPATH": f"{STUB}:{PACKAGES}",
                    "MARK": self.mark,
                    "AUTOTUNE_LOCK": str(self.work / "lock"),
                    **variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                **self._as_whom,
            )
        self._started.append(process)
        return process

    def said(self, log: str) -> str:
        """Return what a command has said so far."""
        return (self.folder / f"{log}.log").read_text()

    def end(self, log: str, process: "subprocess.Popen[str]") -> None:
        """Wait for a command's regular end."""
        assert process.wait(timeout=_PATIENCE_S) == 0, self.said(log)

    def until(self, log: str, process: "subprocess.Popen[str]", text: str) -> None:
        """Wait until a command has said something."""
        deadline = time.monotonic() + _PATIENCE_S
        while text not in self.said(log):
            assert process.poll() is None, self.said(log)
            assert time.monotonic() < deadline, self.said(log)
            time.sleep(0.05)

    def check(self, study: str) -> None:
        """Nothing runs any more, and the study was worked on by two processes, to its end."""
        assert left_of(self.mark) == []
        storage = open_database(self.url, create=False)
        records = read_records(load_study(storage, study).get_trials(deepcopy=False))
        storage.remove_session()
        storage.engine.dispose()
        assert all(not record.is_running for record in records)
        assert {record.role.value for record in records if record.counts} >= {"default", "final"}

    @property
    def url(self) -> str:
        """The database, as a recipe's storage."""
        return f"postgresql://tuner:{PASSWORD}@127.0.0.1:{self.port}/autotune"

    def close(self) -> None:
        """End what is left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()


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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.mark.postgres
def test_what_compose_starts(site: Site) -> None:
    """Database, run and worker, dashboard: each by its command, environment and health check."""
    services = compose(
        POSTGRES_PASSWORD=PASSWORD,
        AUTOTUNE_DASHBOARD_TOKEN=TOKEN,
        DB_HOST="127.0.0.1",
        SCRIPT="train.py",
        STUDY="train",
    )
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
        service = services[name]
        words = [*entry, *service["command"]]
        started[name] = site.start(words, service["environment"], log=name)
        if name == "worker":
            site.until(name, started[name], "waiting for study train")
    for name, process in started.items():
        site.end(name, process)
    site.check("train")

    service, port = services["dashboard"], str(free_port())
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    words = [word.replace("8080", port) for word in (*entry, *service["command"])]
    dashboard = site.start(words, service["environment"], log="dashboard")
    kind, *words = services["dashboard"]["healthcheck"]["test"]
    assert kind == "CMD"
    words = [word.replace("8080", port) for word in words]
    deadline = time.monotonic() + _PATIENCE_S
    while site.start(words, {}, log="health").wait(timeout=60) != 0:
        assert time.monotonic() < deadline, site.said("health")
    url = f"http://127.0.0.1:{port}/api/studies"
    assert fetch(url)[0] == 401
    status, body = fetch(url, Authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert '"train"' in body
    dashboard.send_signal(signal.SIGTERM)
    site.end("dashboard", dashboard)

    # as the file's first lines say it
    (told,) = re.findall(r"run --rm run (export .*)", COMPOSE.read_text())
    words = [*entry, *told.replace("mlp_train", "train").split()]
    site.end("export", site.start(words, services["run"]["environment"], log="export"))
    assert site.said("export").startswith(
        "# Settings for TensorFlow on the CPU, found by autotune\n"
    )


@pytest.mark.postgres
def test_a_dashboard_without_a_token_does_not_listen(site: Site) -> None:
    """As on a machine with a worker, where none is set: Compose fills in nothing."""
    service = compose(POSTGRES_PASSWORD=PASSWORD, DB_HOST="127.0.0.1")["dashboard"]
    process = site.start(["autotune", *service["command"]], service["environment"], log="x")
    assert process.wait(timeout=_PATIENCE_S) == 1
    assert "anyone who reaches it could change studies" in site.said("x")


@pytest.mark.postgres
def test_what_kubernetes_starts(site: Site) -> None:
    """The pods of both Jobs, and the dashboard with its readiness probe."""
    secret = {
        "password": PASSWORD,
        "storage": f"postgresql://tuner:{PASSWORD}@autotune-db:5432/autotune",
        "dashboard-token": TOKEN,
    }
    told = (DEPLOY / "kubernetes" / "postgres.yaml").read_text()
    assert f"storage={secret['storage'].replace(PASSWORD, 'PASSWORD')}\n" in told

    def begin(path: str, kind: str, name: str, port: str = "8080") -> "subprocess.Popen[str]":
        pod = document(path, kind, name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        environment = {
            one["name"]: secret[one["valueFrom"]["secretKeyRef"]["key"]] for one in container["env"]
        }
        words = [word.replace("8080", port) for word in container["args"]]
        return site.start(["autotune", *words], environment, log=name)

    started = {
        name: begin("study.yaml", "Job", name) for name in ("autotune-run", "autotune-workers")
    }
    for name, process in started.items():
        site.end(name, process)
    site.check("train")

    name, port = "autotune-dashboard", str(free_port())
    dashboard = begin("dashboard.yaml", "Deployment", name, port)
    site.until(name, dashboard, "Ctrl-C ends it")
    owner = document("dashboard.yaml", "Deployment", name)
    (container,) = owner["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    assert probe["port"] == 8080
    headers = {one["name"]: one["value"] for one in probe["httpHeaders"]}
    # the kubelet asks the pod's address, which is no name that the dashboard is known by
    assert fetch(f"http://127.0.0.1:{port}{probe['path']}", **headers)[0] == 200
    assert fetch(f"http://127.0.0.1:{port}{probe['path']}", Host="10.1.2.3")[0] == 403
    assert fetch(f"http://127.0.0.1:{port}/api/studies", **headers)[0] == 401
    dashboard.send_signal(signal.SIGTERM)
    site.end(name, dashboard)


@pytest.mark.postgres
def test_what_slurm_starts(site: Site) -> None:
    """One task begins, another joins, in one folder; submitted again, they end at once."""
    environment = {"AUTOTUNE_STORAGE": site.url, "STUDY": "array"}
    script = str(site.models / "train.py")
    for attempt in ("first", "again"):
        started = {
            f"{attempt}-{task}": site.start(
                [str(SLURM), script],
                {**environment, "SLURM_ARRAY_TASK_ID": str(task)},
                log=f"{attempt}-{task}",
            )
            for task in range(2)
        }
        for name, process in started.items():
            site.end(name, process)
    site.check("array")
    assert len(list((site.work / ".autotune").glob("array*/claim.json"))) == 1


class Slurm:
    """A real Slurm with two nodes, both on this machine; one user's, without authentication."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        host = socket.gethostname()
        ports = [free_port() for _ in range(3)]
        self._settings = folder / "slurm.conf"
        self._settings.write_text(
            f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={ports[0]}\n"
            "SlurmUser=root\nSlurmdUser=root\nAuthType=auth/none\nCredType=cred/none\n"
            f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/%n\n"
            f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/%n.pid\n"
            "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\n"
            "JobAcctGatherType=jobacct_gather/none\nSelectType=select/cons_tres\n"
            + "".join(
                f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1\n"
                for number, port in enumerate(ports[1:])
            )
            + "PartitionName=test Nodes=n[0-1] Default=YES\n"
        )
        self.environment = {"SLURM_CONF": str(self._settings)}
        (folder / "state").mkdir()
        daemons = [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n0"], ["slurmd", "-D", "-N", "n1"]]
        with (folder / "daemons.log").open("wb") as log:
            self._daemons = [
                subprocess.Popen(
                    daemon,
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                for daemon in daemons
            ]

    def wait(self) -> None:
        """Wait until both nodes are there."""
        deadline = time.monotonic() + _PATIENCE_S
        while self._told("sinfo", "--noheader", "--states=idle", "--format=%D").strip() != "2":
            assert time.monotonic() < deadline, (self.folder / "daemons.log").read_text()
            time.sleep(0.2)

    def run(self, site: Site, environment: Mapping[str, str], *words: str) -> None:
        """Submit a job and wait until all of it has come to its regular end."""
        own = {**environment, **self.environment}
        site.end("sbatch", site.start(["sbatch", "--parsable", *words], own, log="sbatch"))
        job, deadline = site.said("sbatch").strip(), time.monotonic() + _PATIENCE_S
        states = {"PENDING"}
        while states & {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"}:
            assert time.monotonic() < deadline, states
            time.sleep(0.2)
            told = self._told("scontrol", "show", "job", "--oneliner", job)
            states = set(re.findall(r"JobState=(\w+)", told))
        assert states == {"COMPLETED"}, (told, [p.read_text() for p in site.work.glob("*.log")])

    def _told(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def close(self) -> None:
        """End it."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(timeout=60)


@pytest.mark.postgres
@pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("slurmctld") and shutil.which("slurmd")),
    reason="no Slurm here that root could start: apt-get install slurmctld slurmd slurm-client",
)
def test_slurm_itself_runs_the_array(site: Site) -> None:
    """A real Slurm starts two tasks, each on a node of its own, as a user without privileges."""
    with open_folder() as folder:
        slurm = Slurm(folder)
        try:
            slurm.wait()
            environment = {"AUTOTUNE_STORAGE": site.url, "STUDY": "slurm"}
            slurm.run(site, environment, "--array=0-1", str(SLURM), str(site.models / "train.py"))
        finally:
            slurm.close()
    site.check("slurm")
    logs = {path.name.rpartition("-")[2]: path for path in site.work.glob("autotune-*.log")}
    assert set(logs) == {"0.log", "1.log"}
    assert "study slurm: train.py on" in logs["0.log"].read_text()
    assert "joined study slurm: train.py on" in logs["1.log"].read_text()
    if not WHY_NOT:
        assert {path.owner() for path in logs.values()} == {NOBODY}


@pytest.mark.parametrize(
    ("task", "known", "command"), [("0", "1", "run"), ("0", "0", "worker"), ("3", "1", "worker")]
)
def test_what_slurm_s_tasks_run(tmp_path: Path, task: str, known: str, command: str) -> None:
    """The first begins what is not known yet, the others join; arguments arrive as they are."""
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
    done = subprocess.run(
        [str(SLURM), "my train.py", "--data", "a b"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[:5] == [command, "--model", "my train.py", "--study", "my train"]
    assert words[words.index("--") + 1 :] == ["--data", "a b"]
    for missing in ("AUTOTUNE_STORAGE", "script"):
        lacking = {**environment, "AUTOTUNE_STORAGE": ""} if "_" in missing else environment
        argv = [str(SLURM), *(["train.py"] if "_" in missing else [])]
        done = subprocess.run(argv, env=lacking, capture_output=True, text=True)
        assert done.returncode != 0
        assert missing in done.stderr
