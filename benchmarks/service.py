"""``make bench-service``: the load that a service bears.

A real ``autotune serve`` on a storage with many studies, each a copy of one that was simulated, and
clients with a token on connections that they keep. Rows of one table are measured in turns, in
several rounds; beside them stands a bare application of FastAPI on the same server, which answers
with as many bytes: what HTTP itself costs on this machine. Clients share the machine's cores with
the service.

    python -m benchmarks.service [--studies 1,50,1000] [--clients 1,50] [--rounds 5]
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
from optuna.storages import RDBStorage
from sqlalchemy import Connection, MetaData, Table, func, insert, literal, select

from autotuner.options.study_spec import StudySpec
from autotuner.service.queue import JobState, Queue, Submission
from autotuner.service.tokens import Scope, create_token
from autotuner.stages.loop import tune
from autotuner.stages.session import Clock, Store, open_session
from autotuner.study.memory import SPEC, Memory
from autotuner.study.storage import default_url, open_database
from autotuner.study.studies import create_study
from autotuner.study.target import Target
from autotuner.testing.calibration import BUILD, MACHINE, better_by
from autotuner.testing.simulated import SimulatedRunner

_SECONDS = 2.0
_MANY = 10_000
_LISTENERS = 100
_POLLED = 50
"""The studies whose files are polled: each is rendered once."""

_MANY_STUDIES = 500
_OF_STUDIES = ("study_directions", "study_user_attributes", "study_system_attributes")
_OF_TRIALS = (
    "trial_params",
    "trial_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_intermediate_values",
)
_BARE = """
import sys
from fastapi import FastAPI, Response
from autotuner.service.server import Server, bind
app, body = FastAPI(), b"x" * int(sys.argv[1])
@app.get("/")
def answer() -> Response:
    return Response(body, media_type="text/plain")
server = Server(app, bind("127.0.0.1", 0), body_s=10)
print(f"service: http://127.0.0.1:{server.port}/", flush=True)
print("Ctrl-C", flush=True)
server.run()
"""


def _name(number: int) -> str:
    return f"study-{number:04}"


def _simulate(storage: RDBStorage, home: Path, name: str) -> None:
    """Tune a simulated script to the end."""
    script = home / "script.py"
    script.touch()
    runner = SimulatedRunner(better_by(1.1), trial_s=10.0, log="a line of output\n")
    spec = StudySpec(model=script, knobs=("threads", "kernels"), trials=10, pairs=2)
    study = create_study(storage, name, spec.objective)
    Memory(study).write(SPEC, spec)
    target = Target(
        spec=spec, machine=MACHINE, build=BUILD, python=Path(sys.executable), folder=home / name
    )
    store = Store(study=study, storage=storage, artifacts=None)
    clock = Clock(monotonic=runner.monotonic)
    with open_session(target, store, runner, lambda _: None, clock=clock) as session:
        tune(session)


def _copy(storage: RDBStorage, numbers: range) -> None:
    """Copy the first study, row by row: through Optuna a thousand would take an hour."""
    tables = MetaData()
    tables.reflect(storage.engine)
    studies, trials = tables.tables["studies"], tables.tables["trials"]
    with storage.engine.begin() as connection:
        first = connection.execute(
            select(studies.c.study_id).where(studies.c.study_name == _name(0))
        ).scalar_one()
        mine = select(trials.c.trial_id).where(trials.c.study_id == first)
        last = connection.execute(select(func.max(trials.c.trial_id))).scalar_one()
        count = len(connection.execute(mine).all())
        begin = connection.execute(mine.order_by(trials.c.trial_id)).scalars().first() or 0
        for place, number in enumerate(numbers):
            made = connection.execute(insert(studies).values(study_name=_name(number)))
            study_id = made.inserted_primary_key[0]  # type: ignore[index]
            shift = last + 1 - begin + place * count
            of_study = {"study_id": literal(study_id)}
            of_trials = {"trial_id": trials.c.trial_id + shift, **of_study}
            _insert(connection, trials, of_trials, trials.c.study_id == first)
            for name in _OF_STUDIES:
                table = tables.tables[name]
                _insert(connection, table, of_study, table.c.study_id == first)
            for name in _OF_TRIALS:
                table = tables.tables[name]
                changed = {"trial_id": table.c.trial_id + shift}
                _insert(connection, table, changed, table.c.trial_id.in_(mine))


def _insert(connection: Connection, of: Table, changed: Mapping[str, object], where: Any) -> None:
    """Insert copies of rows, with other values in some columns and keys of their own."""
    own_key = {column.name for column in of.primary_key.columns} - set(changed)
    kept = [column for column in of.columns if column.name not in own_key]
    values: list[Any] = [changed.get(column.name, column) for column in kept]
    rows = select(*values).where(where)
    connection.execute(insert(of).from_select([column.name for column in kept], rows))


def _submit(queue: Queue, numbers: range) -> None:
    """Put some of the studies through the queue, as jobs that have ended."""
    for number in numbers:
        spec = StudySpec(model=Path("train.py"), name=_name(number))
        queue.submit(Submission(spec=spec), "bench")
        job = queue.take("bench")
        assert job is not None
        queue.finish(job, JobState.DONE, "FASTER", tuned=_name(number))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Server:
    """A server in a process of its own."""

    port: int
    process: psutil.Process
    token: str

    @property
    def mib(self) -> float:
        """Its resident memory."""
        return float(self.process.memory_info().rss) / 2**20


@contextlib.contextmanager
def _running(argv: Sequence[str], folder: Path, token: str) -> Iterator[_Server]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *argv], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            port = None
            for line in process.stdout:
                found = re.match(r"service: +http://[^:]+:(\d+)/", line)
                port = int(found[1]) if found else port
                if "Ctrl-C" in line:
                    break
            assert port is not None, (folder / "server.log").read_text()
            yield _Server(port=port, process=psutil.Process(process.pid), token=token)
        finally:
            process.terminate()
            process.wait()


class _Client:
    """A connection that is kept. The answers have a Content-Length."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, headers: str = "") -> tuple[int, int, str]:
        """Return the status, the length and the ETag of an answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._server.port)
        reader, writer = self._streams
        own = f"Host: localhost\r\nAuthorization: Bearer {self._server.token}\r\n{headers}"
        writer.write(f"GET {path} HTTP/1.1\r\n{own}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"^content-length: (\d+)", head, re.MULTILINE)
        etag = re.search(r"^etag: (\S+)", head, re.MULTILINE)
        size = int(length[1]) if length else 0
        await reader.readexactly(size)
        return int(head.split()[1]), size, etag[1] if etag else ""

    async def follow(self, path: str, until: asyncio.Event) -> int:
        """Return the number of events that arrive until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        own = f"Host: localhost\r\nAuthorization: Bearer {self._server.token}\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\n{own}\r\n".encode())
        status = await reader.readline()
        assert b" 200 " in status, status
        events = 0
        ended = asyncio.ensure_future(until.wait())
        while not until.is_set():
            line = asyncio.ensure_future(reader.readline())
            await asyncio.wait({line, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                line.cancel()
                break
            if not line.result():
                break
            events += line.result().startswith(b"event:")
        writer.close()
        return events

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()


@dataclasses.dataclass
class _Row:
    """What one kind of request costs. ``rates``: answers per second, of each round."""

    name: str
    server: _Server
    paths: Callable[[int], str]
    headers: str = ""
    clients: int = 1
    latencies: list[float] = dataclasses.field(default_factory=list)
    rates: list[float] = dataclasses.field(default_factory=list)

    async def measure(self, seconds: float) -> None:
        """Let the clients ask for some seconds, each as soon as it has its answer."""
        begin = time.perf_counter()
        counts = await asyncio.gather(*(self._ask(k, begin + seconds) for k in range(self.clients)))
        self.rates.append(sum(counts) / (time.perf_counter() - begin))

    async def _ask(self, number: int, until: float) -> int:
        client, count = _Client(self.server), 0
        await client.get(self.paths(number), self.headers)  # connects
        while (start := time.perf_counter()) < until:
            status, _, _ = await client.get(self.paths(number + 7 * count), self.headers)
            assert status in (200, 304), (self.name, status)
            self.latencies.append(time.perf_counter() - start)
            count += 1
        client.close()
        return count


def _print(row: _Row, studies: int, bare: _Row, mib: float) -> None:
    p50, p99 = (1000 * float(q) for q in np.quantile(row.latencies, [0.5, 0.99]))
    ratios = [mine / its for mine, its in zip(row.rates, bare.rates, strict=True)]
    shown = f"{np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    print(
        f"| {studies:,} | {row.clients} | {row.name} | {p50:.1f} | {p99:.1f} | "
        f"{np.median(row.rates):.0f} | {shown} | {mib:.0f} |",
        flush=True,
    )


async def _measure(
    studies: int, service: _Server, bare: _Server, options: argparse.Namespace
) -> None:
    def name(k: int) -> str:
        return _name(k % studies)

    fresh = itertools.count(_POLLED)

    def new_file(_: int) -> str:
        return f"/studies/{name(next(fresh))}/best.env"

    status, _, etag = await _Client(service).get(f"/studies/{_name(0)}/best.env")
    assert status == 200, status
    for clients in options.clients:
        rows = [
            _Row("best.env", service, lambda k: f"/studies/{name(k % _POLLED)}/best.env"),
            _Row(
                "best.env, If-None-Match",
                service,
                lambda k: f"/studies/{_name(0)}/best.env",
                headers=f"If-None-Match: {etag}\r\n",
            ),
            _Row("status", service, lambda k: f"/studies/{name(k)}"),
            _Row("50 of the list", service, lambda k: "/studies?limit=50"),
            _Row("the page", service, lambda k: "/"),
            _Row("bare FastAPI", bare, lambda k: "/"),
        ]
        if clients == 1 and studies >= _MANY_STUDIES:
            rows.insert(0, _Row("best.env, for the first time", service, new_file))
        for row in rows:
            row.clients = clients
        for _ in range(options.rounds):
            for row in rows:
                await row.measure(_SECONDS / 2)
        for row in rows:
            _print(row, studies, rows[-1], row.server.mib)


async def _grow(service: _Server, studies: int) -> None:
    """Print the memory before and after many requests."""
    row = _Row("best.env", service, lambda k: f"/studies/{_name(k % studies)}/best.env", clients=50)
    await row.measure(_SECONDS)
    sizes = [service.mib]
    for _ in range(3):
        count = 0
        while count < _MANY:
            await row.measure(_SECONDS)
            count += int(row.rates[-1] * _SECONDS)
        sizes.append(service.mib)
    shown = ", ".join(f"{size:.0f}" for size in sizes)
    print(f"\nmemory before, and after each of three times {_MANY:,} requests: {shown} MiB")


async def _listen(
    service: _Server, studies: int, tokens: Sequence[str], bare: _Server, study: str
) -> None:
    """Print what one client sees while many follow a study."""
    until = asyncio.Event()
    clients = [
        _Client(dataclasses.replace(service, token=tokens[k % (len(tokens) - 1)]))
        for k in range(_LISTENERS)
    ]
    path = f"/studies/{study}/events"
    following = [asyncio.ensure_future(client.follow(path, until)) for client in clients]
    await asyncio.sleep(2)
    # the other tokens have used up their minute's requests
    rested = dataclasses.replace(service, token=tokens[-1])
    row = _Row("status", rested, lambda k: f"/studies/{_name(k % _POLLED)}")
    plain = _Row("bare FastAPI", bare, lambda k: "/")
    for _ in range(5):
        await row.measure(_SECONDS)
        await plain.measure(_SECONDS)
    until.set()
    events = await asyncio.gather(*following)
    print(f"\nwhile {_LISTENERS} clients follow a study ({min(events)} events or more for each):\n")
    _head()
    _print(row, studies, plain, service.mib)


def _head() -> None:
    print(
        "| studies | clients | request | p50 ms | p99 ms | answers/s | of bare FastAPI | MiB |\n"
        "|---|---|---|---|---|---|---|---|"
    )


def main() -> None:
    """Print the tables of docs/service-load.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = lambda text: [int(one) for one in text.split(",")]  # noqa: E731
    parser.add_argument("--studies", type=numbers, default=[1, 50, 1000])
    parser.add_argument("--clients", type=numbers, default=[1, 50])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _head()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home = folder / ".autotune"
        home.mkdir()
        (folder / "models").mkdir()
        (folder / "models" / "train.py").touch()
        storage = open_database(default_url(home), create=True)
        queue = Queue(storage)
        tokens = [create_token(queue.store, f"client {k}", {Scope.READ}) for k in range(5)]
        _simulate(storage, home, _name(0))
        made = 1
        for studies in sorted(options.studies):
            _copy(storage, range(made, studies))
            _submit(queue, range(max(made - 1, 0), studies, 2))
            made = studies
            serve = ("-m", "autotuner", "serve", "--models", "models", "--require-token")
            ports = ("--port", "0", "--dashboard-port", "0")
            with (
                _running([*serve, *ports], folder, tokens[0]) as service,
                _running(["-c", _BARE, "3000"], folder, "") as bare,
            ):
                asyncio.run(_measure(studies, service, bare, options))
                if studies == max(options.studies):
                    asyncio.run(_grow(service, studies))
                    (folder / "models" / "train.py").write_text("import time\ntime.sleep(300)\n")
                    waits = StudySpec(model=Path("train.py"), name="followed")
                    queue.submit(Submission(spec=waits), "bench")
                    asyncio.run(_listen(service, studies, tokens, bare, "followed"))
        storage.engine.dispose()


if __name__ == "__main__":
    main()
