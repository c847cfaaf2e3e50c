"""Several workers on one study: simulated runners, each in a thread, one storage between them."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import Objective, SamplerName, StudySpec
from autotuner.stages.final import decide_on
from autotuner.stages.loop import search, tune
from autotuner.stages.session import Clock, Session, Store, open_session
from autotuner.statistics.sequential import Verdict
from autotuner.study.memory import SPEC, Memory
from autotuner.study.record import Role, Side, TrialRecord, read_records
from autotuner.study.storage import default_url, open_database
from autotuner.study.studies import create_study, is_idle, load_study
from autotuner.study.target import Target
from autotuner.study.trials import Trials
from autotuner.study.workers import Workers, is_alive, living, this_worker, worker_name
from autotuner.testing.simulated import SimulatedRunner
from autotuner.trial.request import TrialRequest
from autotuner.verdict.decision import Decision
from autotuner.verdict.sentences import further_sentences, sentence
from tests.fakes import BUILD, machine, noise_of, run_first_trials, threads_matter

_QUICK_S = 0.002


class DiedError(Exception):
    """The power of a worker's machine has failed."""


class Unhurried(SimulatedRunner):
    """A runner whose processes take a moment of real time, so that no worker runs all trials."""

    def _start_process(self, request: TrialRequest) -> None:
        super()._start_process(request)
        time.sleep(_QUICK_S)


class Fleet:
    """A study in memory that any number of workers can join."""

    def __init__(self, folder: Path, **fields: object) -> None:
        self.folder = folder
        script = folder / "train.py"
        script.write_text("import tensorflow\n")
        self.spec = StudySpec(model=script, **fields)  # type: ignore[arg-type]
        self.storage = optuna.storages.InMemoryStorage()
        study = create_study(self.storage, "s", Objective.THROUGHPUT)
        Memory(study).write(SPEC, self.spec)
        self.errors: list[BaseException] = []

    def study(self) -> optuna.Study:
        """Return the study as another process would open it."""
        return load_study(self.storage, "s")

    def workers(self, host: str, study: optuna.Study) -> Workers:
        """Return the workers as seen by a worker on a machine."""
        return Workers(study, shared=True, machine=host, poll_s=_QUICK_S)

    def session(
        self, runner: SimulatedRunner, workers: Workers, study: optuna.Study
    ) -> AbstractContextManager[Session]:
        """Return a worker's session."""
        target = Target(
            spec=self.spec,
            machine=dataclasses.replace(machine(affinity=4, cores=4), host=workers.machine),
            build=BUILD,
            python=Path("python"),
            folder=self.folder / ".autotune" / workers.machine,
        )
        store, clock = Store(study=study, storage=self.storage), Clock(monotonic=runner.monotonic)
        return open_session(target, store, runner, lambda event: None, workers=workers, clock=clock)

    def work(self, host: str, runner: SimulatedRunner) -> None:
        """Run a worker from joining to the end."""
        study = self.study()
        with self.workers(host, study) as workers, self.session(runner, workers, study) as session:
            tune(session)

    def lose(self, configuration: Configuration, session: Session) -> int:
        """Leave a trial running, as a dying worker does; return its number."""
        study = self.study()
        dead = self.workers("a", study)
        dead.me = dataclasses.replace(dead.me, pid=2**22 + 1)
        side = Side(role=Role.SEARCH, configuration=configuration, machine="a")
        trials = Trials(study, self.storage, dead, limit_s=60.0)
        return trials.add(side, session.facts.space)

    def run(self, runners: Mapping[str, SimulatedRunner]) -> None:
        """Run the study to its end with one worker on each machine."""

        def work(host: str, runner: SimulatedRunner) -> None:
            try:
                self.work(host, runner)
            except BaseException as error:  # noqa: BLE001 - the test raises it
                self.errors.append(error)

        threads = [threading.Thread(target=work, args=one) for one in runners.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        if self.errors:
            raise self.errors[0]

    def records(self) -> list[TrialRecord]:
        """Return all trials."""
        return read_records(self.study().get_trials(deepcopy=False))

    def decision(self) -> Decision:
        """Return the decision on the study."""
        study = self.study()
        workers = self.workers("reader", study)
        with self.session(SimulatedRunner(threads_matter), workers, study) as session:
            found = decide_on(session.known())
        assert found is not None
        return found


def runners(
    *hosts: str, speed: Callable[[Configuration], float] = threads_matter
) -> dict[str, SimulatedRunner]:
    """Return a simulated machine for each host, each with noise of its own."""
    return {host: Unhurried(speed, seed=host) for host in hosts}


@pytest.mark.parametrize("sampler", [SamplerName.GP, SamplerName.TPE, SamplerName.GRID])
def test_workers_share_a_study(tmp_path: Path, sampler: SamplerName) -> None:
    """The budget is exact, nothing is done twice, and all machines are in the verdict."""
    fleet = Fleet(tmp_path, trials=24, sampler=sampler)
    fleet.run(runners("a", "b", "c"))
    records = [r for r in fleet.records() if r.counts]
    roles = Counter(r.role for r in records)
    assert roles[Role.DEFAULT] == roles[Role.RECIPE] == 1
    assert roles[Role.CONTROL] == 2
    assert roles[Role.DEFAULT] + roles[Role.RECIPE] + roles[Role.SEARCH] == 24
    assert {r.machine for r in records if r.role is Role.SEARCH} == {"a", "b", "c"}
    assert not any(r.state is TrialState.RUNNING for r in fleet.records())
    found = fleet.decision()
    assert found.verdict is Verdict.FASTER
    assert {one.machine for one in found.machines} == {"a", "b", "c"}
    assert all(one.pairs >= 2 for one in found.machines)
    assert any(text.startswith("by machine: a 1.") for text in further_sentences(found, None))


def test_a_round_of_the_race_is_run_once(tmp_path: Path) -> None:
    """Each candidate runs once in each round, on one of the workers."""
    fleet = Fleet(tmp_path, trials=24)
    fleet.run(runners("a", "b", "c", "d"))
    raced = Counter(
        (r.race_round, json.dumps(dict(r.configuration)))
        for r in fleet.records()
        if r.role is Role.RACE and r.counts
    )
    assert raced
    assert set(raced.values()) == {1}


def test_many_workers_do_not_exceed_the_number_of_pairs(tmp_path: Path) -> None:
    """All plan the first pairs at once: some run them, and both sides of each are measured."""
    fleet = Fleet(tmp_path, trials=12, pairs=6)
    fleet.run(runners(*"abcdefgh"))
    finals = [r for r in fleet.records() if r.role is Role.FINAL]
    pairs = Counter(r.pair for r in finals if r.counts)
    assert set(pairs.values()) == {2}
    assert 4 <= len(pairs) <= 6
    withdrawn = [r for r in finals if not r.counts]
    assert all("another worker" in r.reason for r in withdrawn)
    assert not {r.pair for r in withdrawn} & set(pairs)
    found = fleet.decision()
    assert found.finding is not None
    assert found.finding.low is not None


def test_machines_that_disagree_are_not_faster(tmp_path: Path) -> None:
    """A finalist that wins on two machines and loses on the third is not FASTER."""

    def loses(configuration: Configuration) -> float:
        return 100.0 if not configuration or configuration.get("intra_op", 4) == 4 else 75.0

    def wins(configuration: Configuration) -> float:
        return 100.0 if not configuration or configuration.get("intra_op", 4) == 4 else 190.0

    fleet = Fleet(tmp_path, trials=6, knobs=("intra_op",))
    fleet.run({**runners("a", "b", speed=wins), **runners("c", speed=loses)})
    found = fleet.decision()
    assert found.machines_disagree
    assert found.verdict is Verdict.INCONCLUSIVE
    assert not found.is_recommended
    assert "slower on others" in sentence(found, Objective.THROUGHPUT)


def test_a_lost_trial_is_run_again_once(tmp_path: Path) -> None:
    """A worker dies during a trial: its configuration runs again, and the budget stays exact."""
    fleet = Fleet(tmp_path, trials=8)
    study = fleet.study()
    workers = fleet.workers("a", study)
    runner = SimulatedRunner(threads_matter)
    with workers, fleet.session(runner, workers, study) as session:
        run_first_trials(session)
        configuration = {**session.facts.space.default, "intra_op": 3}
        dead = fleet.lose(configuration, session)
        search(session)
    records = fleet.records()
    lost = next(r for r in records if r.number == dead)
    assert lost.lost
    assert lost.state is TrialState.FAIL
    assert "died" in lost.reason
    again = [r for r in records if dict(r.configuration) == configuration and not r.lost]
    assert [r.state for r in again] == [TrialState.COMPLETE]
    searched = (Role.DEFAULT, Role.RECIPE, Role.SEARCH)
    assert sum(r.counts and r.role in searched for r in records) == 8


def test_a_configuration_lost_twice_is_not_run_again(tmp_path: Path) -> None:
    """The configuration may be what kills the machines."""
    fleet = Fleet(tmp_path, trials=6)
    study = fleet.study()
    with (
        fleet.workers("a", study) as workers,
        fleet.session(SimulatedRunner(threads_matter), workers, study) as session,
    ):
        run_first_trials(session)
        configuration = {**session.facts.space.default, "intra_op": 3, "inter_op": 3}
        for _ in range(2):
            fleet.lose(configuration, session)
            assert session.trials.sweep() == 1
        before = len(fleet.records())
        search(session)
    new = fleet.records()[before:]
    assert new
    assert all(dict(r.configuration) != configuration for r in new[:1])


def test_another_worker_takes_the_preparation_over(tmp_path: Path) -> None:
    """The first worker dies in the noise check: the next one finishes it and keeps the defaults."""
    fleet = Fleet(tmp_path, trials=6)

    def die(count: int) -> None:
        if count == 3:
            raise DiedError

    first = SimulatedRunner(threads_matter, seed=1)
    first.before_run = die
    with pytest.raises(DiedError):
        fleet.work("a", first)
    study = fleet.study()
    assert is_idle(study)
    fleet.run(runners("b"))
    records = [r for r in fleet.records() if r.counts]
    assert sum(r.role is Role.DEFAULT for r in records) == 1
    assert records[0].machine == "a"
    assert fleet.decision().finding is not None


def test_the_oldest_becomes_leader(tmp_path: Path) -> None:
    """One worker leads; when it leaves, the oldest of the others leads."""
    fleet = Fleet(tmp_path)
    first, second, third = (fleet.workers(host, fleet.study()) for host in "abc")
    with first:
        assert first.is_leader()
        with second, third:
            assert not second.is_leader()
            assert not third.is_leader()
            assert first.is_leader()
            assert set(first.machines()) == {"a", "b", "c"}
    with second, third:
        second._since, third._since = 1.0, 2.0
        second._sign()
        third._sign()
        assert not third.is_leader()
        assert second.is_leader()
        assert not third.is_leader()


def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a worker on another machine the sign of life counts, which expires after a minute."""
    fleet = Fleet(tmp_path)
    study = fleet.study()
    with fleet.workers("a", study) as workers:
        signature = workers.me.signature(10_000)
        there = study.user_attrs
        assert list(living(there)) == [workers.me.key]
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        assert is_alive(signature, there)
        sign = f"worker:{workers.me.key}"
        late = {sign: there[sign].replace('"until": ', '"until": -')}
        assert not is_alive(signature, late)
        assert is_alive(signature, {})  # it has left no sign, and its trial may still run
    assert living(study.user_attrs) == {}
    assert worker_name(this_worker().signature(1)).startswith("process ")


def test_a_worker_joins_what_is_prepared(tmp_path: Path) -> None:
    """A new worker reads the remembered values and measures none of them again."""
    fleet = Fleet(tmp_path, trials=6)
    fleet.run(runners("a"))
    study = fleet.study()
    workers = fleet.workers("b", study)
    with workers, fleet.session(SimulatedRunner(threads_matter), workers, study) as session:
        count = len(fleet.records())
        run_first_trials(session)
        search(session)
        assert len(fleet.records()) == count
        assert noise_of(session).processes > 1


def test_a_zombie_is_dead() -> None:
    """An ended process without a waiting parent, as in a container without an init, is dead."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = round(psutil.Process(child.pid).create_time(), 2)
    signature = dataclasses.replace(this_worker(), pid=child.pid, started=started).signature(60)
    assert is_alive(signature, {})
    child.kill()
    deadline = time.monotonic() + 60
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert not is_alive(signature, {})
    child.communicate()
    assert not is_alive(signature, {})


def test_many_open_a_database_at_once(tmp_path: Path) -> None:
    """Each checks that it may write, and none is in the way of another."""
    home = tmp_path / ".autotune"
    url = default_url(home)
    open_database(url, create=True)
    with ThreadPoolExecutor(8) as pool:
        for opening in [pool.submit(open_database, url, create=True) for _ in range(80)]:
            opening.result().engine.dispose()
