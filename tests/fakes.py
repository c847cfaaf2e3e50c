"""Stand-ins that tests share: a machine, a build, trial records, and studies on a simulated runner.

Their values are plain, so that a test states only what matters to it.
"""

import contextlib
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from autotuner.knobs.knob import Build, Configuration
from autotuner.machine.host import Machine
from autotuner.options.study_spec import StudySpec
from autotuner.report.dashboard_pages import DashboardPages
from autotuner.stages.loop import prepare, repeat, tune
from autotuner.stages.session import Clock, Session, Store, open_session
from autotuner.stages.usual import UsualCandidates
from autotuner.study.artifacts import artifact_store
from autotuner.study.events import Event, OnEvent, ProgressMade, Remark, to_all
from autotuner.study.memory import NOISE, SPEC, Memory
from autotuner.study.noise import Noise
from autotuner.study.record import Role, TrialRecord
from autotuner.study.storage import default_url, open_database
from autotuner.study.studies import create_study, load_study
from autotuner.study.target import Target
from autotuner.testing.simulated import SimulatedRunner
from autotuner.trial.outcome import Status

BUILD = Build(tensorflow="2.21.0", keras="3", python="3.11.7", onednn_default=True, openmp=None)

LOG = "epoch 1 `loss` <b>0.5</b>\nValueError: boom | pipe\n"


def machine(affinity: int = 8, quota: float | None = None, cores: int = 4) -> Machine:
    """Return a machine."""
    return Machine(
        host="h",
        cpu_model="cpu",
        affinity_cpus=affinity,
        physical_cores=cores,
        sockets=1,
        quota_cpus=quota,
        memory_bytes=2**33,
    )


def record(number: int, point: Configuration, gain: float | None, **fields: object) -> TrialRecord:
    status = Status.CRASHED if gain is None else Status.MEASURED
    return TrialRecord(
        number=number,
        role=Role.SEARCH,
        configuration=point,
        state=TrialState.PRUNED if gain is None else TrialState.COMPLETE,
        status=status,
        reason="",
        throughput=None,
        folder="",
        elapsed_s=1.0,
        gain=gain,
        **fields,  # type: ignore[arg-type]
    )


class Recorder:
    """Receives the events of a study and remembers them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def parts(self) -> list[float]:
        """The fractions that were done, in their order."""
        return [event.done for event in self.events if isinstance(event, ProgressMade)]

    @property
    def remarks(self) -> list[str]:
        """All sentences for the user."""
        return [event.text for event in self.events if isinstance(event, Remark)]


class Bench:
    """A study that can be reopened as by another process; in memory unless ``on_disk``.

    ``url``: of another storage. ``with_pages``: its notes, plots and files are kept for the
    dashboard.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "train.py"
        self.script.write_text("import tensorflow\n")
        self.recorder = Recorder()
        self.machine: Machine = machine(affinity=4, cores=4)
        self.on_disk = False
        self.with_pages = False
        self.url: str | None = None
        self._in_memory = optuna.storages.InMemoryStorage()
        self._stack = contextlib.ExitStack()

    def session(
        self, runner: SimulatedRunner, *, spent_s: float = 0.0, **fields: object
    ) -> Session:
        """Return a session on the study, which is made if need be; the last session ends."""
        self._stack.close()
        spec = StudySpec(model=self.script, **fields)  # type: ignore[arg-type]
        storage: BaseStorage = self._in_memory
        if self.on_disk or self.url:
            storage = open_database(self.url or default_url(self.folder / ".autotune"), create=True)
        if "s" not in optuna.get_all_study_names(storage):
            create_study(storage, "s", spec.objective)
        study = load_study(storage, "s")
        Memory(study).write(SPEC, spec)
        self.study, self.storage = study, storage
        on_event: OnEvent = self.recorder
        if self.with_pages:
            self.pages = DashboardPages(study, storage)
            on_event = to_all(self.recorder, self.pages)
        artifacts = artifact_store(self.folder / ".autotune") if self.with_pages else None
        target = Target(
            spec=spec,
            machine=self.machine,
            build=BUILD,
            python=Path("python"),
            folder=self.folder / ".autotune" / "studies" / "s",
        )
        store = Store(study=study, storage=storage, artifacts=artifacts)
        clock = Clock(monotonic=runner.monotonic, spent_s=spent_s)
        context = open_session(target, store, runner, on_event, clock=clock)
        return self._stack.enter_context(context)

    def close(self) -> None:
        """End the session and close the database."""
        self._stack.close()
        if isinstance(self.storage, RDBStorage):
            self.storage.remove_session()
            self.storage.engine.dispose()


def threads_matter(configuration: Configuration) -> float:
    """Return a speed that is best with two threads inside an op and oneDNN off: 1.3 times."""
    intra, onednn = configuration.get("intra_op", 4), configuration.get("onednn", "1")
    return 100 * (1.2 if intra == 2 else 1.0) * (1.1 if onednn == "0" else 1.0)


def crash_with_many(configuration: Configuration) -> float | Status:
    """Crash with more than two threads between ops."""
    if configuration.get("inter_op", 1) in (3, 4):
        return Status.CRASHED
    return threads_matter(configuration)


def run_all(session: Session) -> None:
    """Run a study to its end."""
    session.trials.sweep()
    tune(session)


def run_first_trials(session: Session) -> None:
    """Run what comes before the search."""
    prepare(session)
    repeat(session, UsualCandidates())


def noise_of(session: Session) -> Noise:
    """Return the noise check's result."""
    noise = session.memory.read(NOISE)
    assert noise is not None
    return noise


def finished(folder: Path) -> Bench:
    """Return a study that has run to its end, some of its trials having crashed."""
    bench = Bench(folder)
    bench.on_disk = bench.with_pages = True
    run_all(bench.session(SimulatedRunner(crash_with_many, log=LOG), trials=20))
    bench.pages.refresh()
    return bench
