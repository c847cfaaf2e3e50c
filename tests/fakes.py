"""Stand-ins that tests share: a machine, a build, trial records, and studies on a simulated runner.

Their values are plain, so that a test states what matters to it and nothing else.
"""

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from autotuner.knobs.knob import Build, Configuration
from autotuner.machine.host import Machine
from autotuner.options.study_spec import StudySpec
from autotuner.report.dashboard_pages import DashboardPages
from autotuner.study.artifacts import artifact_store
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.events import Listener, Listeners
from autotuner.study.noise import Noise
from autotuner.study.preparation import run_first_trials
from autotuner.study.record import Role, StudyFacts, TrialRecord
from autotuner.study.search import run_search
from autotuner.study.settings import write_spec
from autotuner.study.storage import default_url, open_database
from autotuner.study.studies import create_study, load_study
from autotuner.study.tuner import Setting, Tuner
from autotuner.testing.simulated import SimulatedRunner
from autotuner.trial.outcome import Phase, Status
from autotuner.verdict.final import run_final
from autotuner.verdict.race import run_race

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


class Silent:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.records: list[TrialRecord] = []
        self.parts: list[float] = []
        self.remarks: list[str] = []

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        pass

    def phase_entered(self, phase: Phase) -> None:
        pass

    def trial_ended(self, record: TrialRecord) -> None:
        self.records.append(record)

    def facts_known(self, facts: StudyFacts) -> None:
        pass

    def diagnosis_known(self, diagnosis: Diagnosis) -> None:
        self.diagnosis = diagnosis

    def noise_known(self, noise: Noise) -> None:
        self.noise = noise

    def remark(self, text: str) -> None:
        self.remarks.append(text)

    def progress(self, done: float) -> None:
        self.parts.append(done)


class Bench:
    """A study that can be opened again as another process would; in memory unless ``on_disk``.

    ``url``: of another storage. ``with_pages``: its notes, plots and files are kept for the
    dashboard, too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "train.py"
        self.script.write_text("import tensorflow\n")
        self.listener = Silent()
        self.machine: Machine = machine(affinity=4, cores=4)
        self.on_disk = False
        self.with_pages = False
        self.url: str | None = None
        self._memory = optuna.storages.InMemoryStorage()

    def tuner(self, runner: SimulatedRunner, **fields: object) -> Tuner:
        """Return a tuner on the study, made if need be."""
        spec = StudySpec(model=self.script, **fields)  # type: ignore[arg-type]
        storage: BaseStorage = self._memory
        if self.on_disk or self.url:
            storage = open_database(self.url or default_url(self.folder / ".autotune"), create=True)
        known = optuna.get_all_study_names(storage)
        if "s" not in known:
            create_study(storage, "s", spec.objective)
        study = load_study(storage, "s")
        write_spec(study, spec)
        self.study, self.storage = study, storage
        listener: Listener = self.listener
        if self.with_pages:
            self.pages = DashboardPages(study, storage)
            listener = Listeners([self.listener, self.pages])
        return Tuner(
            Setting(
                study=study,
                storage=storage,
                spec=spec,
                machine=self.machine,
                build=BUILD,
                python=Path("python"),
                folder=self.folder / ".autotune" / "s",
                runner=runner,
                listener=listener,
                artifacts=artifact_store(self.folder / ".autotune") if self.with_pages else None,
                monotonic=runner.monotonic,
            )
        )

    def close(self) -> None:
        """Close connections to a server."""
        if isinstance(self.storage, RDBStorage):
            self.storage.remove_session()
            self.storage.engine.dispose()


def threads_matter(configuration: Configuration) -> float:
    """Fastest with two threads inside an op and oneDNN off: 1.3 times the default."""
    intra, onednn = configuration.get("intra_op", 4), configuration.get("onednn", "1")
    return 100 * (1.2 if intra == 2 else 1.0) * (1.1 if onednn == "0" else 1.0)


def crash_with_many(configuration: Configuration) -> float | Status:
    """Crash with more than two threads between ops."""
    if configuration.get("inter_op", 1) in (3, 4):
        return Status.CRASHED
    return threads_matter(configuration)


def run_all(tuner: Tuner) -> None:
    """Run a study to its end."""
    tuner.sweep()
    run_first_trials(tuner)
    run_search(tuner)
    run_race(tuner)
    run_final(tuner, tuner.study)


def finished(folder: Path) -> Bench:
    """Return a study that has run to its end, some of its trials having crashed."""
    bench = Bench(folder)
    bench.on_disk = bench.with_pages = True
    run_all(bench.tuner(SimulatedRunner(crash_with_many, log=LOG), trials=20))
    bench.pages.refresh()
    return bench
