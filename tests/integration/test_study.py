"""The study's loop on a simulated runner and a real SQLite database."""

import dataclasses
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autotuner.errors import ScriptFailedError, UserError
from autotuner.knobs.knob import Configuration
from autotuner.machine import Machine
from autotuner.spec.study_spec import SamplerName, StudySpec
from autotuner.study.identity import claim_folder, folder_name, identify, owner
from autotuner.study.opening import check_same, create_study, is_idle, load_study, reusable_name
from autotuner.study.record import Role, StudyFacts, TrialRecord, configuration_key
from autotuner.study.settings import read_spec, write_spec
from autotuner.study.storage import default_url, open_storage
from autotuner.study.tuner import Setting, Tuner
from autotuner.trial.outcome import Notice, Phase, Status
from autotuner.verdict.decision import PAIRS
from autotuner.verdict.final import current_decision, run_final
from tests.integration.simulated import SimulatedRunner
from tests.unit.test_knobs import BUILD
from tests.unit.test_machine import machine


class Silent:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.records: list[TrialRecord] = []
        self.parts: list[float] = []

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        pass

    def phase_entered(self, phase: Phase) -> None:
        pass

    def trial_ended(self, record: TrialRecord) -> None:
        self.records.append(record)

    def facts_known(self, facts: StudyFacts) -> None:
        pass

    def progress(self, done: float) -> None:
        self.parts.append(done)


class Bench:
    """A study in a folder, that can be opened again as another process would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "train.py"
        self.script.write_text("import tensorflow\n")
        self.listener = Silent()
        self.machine: Machine = machine(affinity=4, cores=4)

    def tuner(self, runner: SimulatedRunner, **fields: object) -> Tuner:
        """Return a tuner on the study, made if need be."""
        spec = StudySpec(model=self.script, **fields)  # type: ignore[arg-type]
        storage = open_storage(default_url(self.folder / ".autotune"), create=True)
        known = optuna.get_all_study_names(storage)
        study = load_study(storage, "s") if "s" in known else create_study(storage, "s")
        self.study = study
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
                listener=self.listener,
                monotonic=runner.monotonic,
            )
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench in a folder of its own."""
    return Bench(tmp_path)


def threads_matter(configuration: Configuration) -> float:
    """Fastest with two threads inside an op and oneDNN off: 1.3 times the default."""
    intra, onednn = configuration.get("intra_op", 4), configuration.get("onednn", "1")
    return 100 * (1.2 if intra == 2 else 1.0) * (1.1 if onednn == "0" else 1.0)


def crash_with_many(configuration: Configuration) -> float | Status:
    """Crash with more than two threads between ops."""
    if configuration.get("inter_op", 1) in (3, 4):
        return Status.CRASHED
    return threads_matter(configuration)


def flat(configuration: Configuration) -> float:
    """Be as fast whatever is set."""
    return 100.0


def run_all(tuner: Tuner) -> None:
    """Run a study to its end."""
    tuner.sweep()
    tuner.run_first_trials()
    tuner.search()
    run_final(tuner)


@pytest.mark.parametrize("sampler", list(SamplerName)[:3])
def test_a_study_finds_the_best_and_confirms_it(bench: Bench, sampler: SamplerName) -> None:
    """Default first, then the recipe, then the sampler; at the end fresh pairs."""
    runner = SimulatedRunner(threads_matter)
    tuner = bench.tuner(runner, trials=32, sampler=sampler)
    run_all(tuner)
    roles = [record.role for record in tuner.records()]
    assert roles[:2] == [Role.DEFAULT, Role.RECIPE]
    assert roles.count(Role.SEARCH) == 30
    assert roles.count(Role.FINAL) == 2 * PAIRS
    assert runner.requests[0].configuration == {}
    decision = current_decision(tuner)
    assert decision is not None
    assert (decision.best.configuration["intra_op"], decision.best.configuration["onednn"]) == (
        2,
        "0",
    )
    assert decision.speed_up is not None
    assert decision.speed_up.median == pytest.approx(1.32, rel=0.06)
    assert decision.deploys_best


def test_final_pairs_alternate_who_goes_first(bench: Bench) -> None:
    """So that a machine that slows down steadily favours neither side."""
    runner = SimulatedRunner(threads_matter)
    tuner = bench.tuner(runner, trials=32)
    run_all(tuner)
    final = [record for record in tuner.records() if record.role is Role.FINAL]
    assert [bool(record.configuration) for record in final] == [
        False,
        True,
        True,
        False,
        False,
        True,
    ]


def test_no_gain_keeps_the_defaults(bench: Bench) -> None:
    """A flat landscape: the luckiest trial is not sold as a winner."""
    tuner = bench.tuner(SimulatedRunner(flat, noise=0.03), trials=32)
    run_all(tuner)
    decision = current_decision(tuner)
    assert decision is not None
    if not decision.is_default and decision.speed_up is not None and decision.speed_up.low <= 1:
        assert decision.deployed == decision.default
        assert "Keep the defaults" in decision.sentence()


def test_a_small_space_is_walked_through_once(bench: Bench) -> None:
    """No trial is spent on a repeat when there are fewer points than trials."""
    tuner = bench.tuner(SimulatedRunner(threads_matter), trials=100)
    run_all(tuner)
    space = tuner.facts.space
    tried = [
        configuration_key({**space.default, **record.configuration})
        for record in tuner.records()
        if record.role is not Role.FINAL
    ]
    assert space.size == 4 * 4 * 2
    assert sorted(set(tried)) == sorted(tried)
    assert len(tried) == space.size


def test_what_crashes_teaches_the_sampler(bench: Bench) -> None:
    """A crash is told as PRUNED, which samplers learn from, and later trials stay away."""
    tuner = bench.tuner(SimulatedRunner(crash_with_many, datasets=1), trials=60)
    run_all(tuner)
    search = [record for record in tuner.records() if record.role is Role.SEARCH]
    crashed = [record.status is Status.CRASHED for record in search]
    states = {record.state for record in search if record.status is Status.CRASHED}
    assert states == {TrialState.PRUNED}
    assert sum(crashed[-30:]) < 30 / 3  # half of the space crashes


def test_a_failing_default_stops_the_study(bench: Bench) -> None:
    """Nothing can be compared with a default that does not run."""
    tuner = bench.tuner(SimulatedRunner(lambda configuration: Status.CRASHED), trials=10)
    with pytest.raises(ScriptFailedError, match="does not run with TensorFlow's defaults"):
        run_all(tuner)
    assert [trial.state for trial in bench.study.trials] == [TrialState.FAIL]


def test_an_interrupted_study_goes_on(bench: Bench) -> None:
    """Ctrl-C fails the current trial, keeps all others, and the budget counts what was done."""
    runner = SimulatedRunner(threads_matter)

    def interrupt(count: int) -> None:
        if count == 5:
            raise KeyboardInterrupt

    runner.before_run = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_all(bench.tuner(runner, trials=20))
    states = [trial.state for trial in bench.study.trials]
    assert states == [TrialState.COMPLETE] * 5 + [TrialState.FAIL]
    runner.before_run = lambda count: None
    tuner = bench.tuner(runner, trials=20)
    run_all(tuner)
    records = [r for r in tuner.records() if r.state is TrialState.COMPLETE]
    assert sum(record.role is Role.DEFAULT for record in records) == 1
    assert sum(record.role is not Role.FINAL for record in records) == 20
    run_all(bench.tuner(runner, trials=20))
    assert len(tuner.records()) == 1 + 20 + 2 * PAIRS


def test_killed_while_the_default_was_told(bench: Bench) -> None:
    """A study whose facts are there but whose default is not gets a new default."""
    runner = SimulatedRunner(threads_matter)
    tuner = bench.tuner(runner, trials=3)
    tuner.run_first_trials()
    storage = open_storage(default_url(bench.folder / ".autotune"), create=False)
    study_id = storage.get_study_id_from_name("s")
    other = create_study(storage, "copy")
    for key, value in storage.get_study_user_attrs(study_id).items():
        other.set_user_attr(key, value)
    optuna.delete_study(study_name="s", storage=storage)
    renamed = create_study(storage, "s")
    for key, value in other.user_attrs.items():
        renamed.set_user_attr(key, value)
    tuner = bench.tuner(runner, trials=3)
    run_all(tuner)
    assert tuner.records()[0].role is Role.DEFAULT
    assert current_decision(tuner) is not None


def test_a_dead_process_s_trials_are_swept(bench: Bench) -> None:
    """RUNNING trials of a process that died are failed; those of a living one are left."""
    tuner = bench.tuner(SimulatedRunner(flat), trials=3)
    dead, living = bench.study.ask(), bench.study.ask()
    dead.set_user_attr("owner", owner().replace('"pid": ', '"pid": 9999'))
    living.set_user_attr("owner", owner())
    bench.study.enqueue_trial({"intra_op": 1})
    assert not is_idle(bench.study)
    assert tuner.sweep() == 1
    states = [trial.state for trial in bench.study.trials]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.FAIL]
    assert "died" in bench.study.trials[0].user_attrs["reason"]


def test_a_time_budget_leaves_room_for_the_final(bench: Bench) -> None:
    """With ten minutes and ten seconds a trial, search and final end in time."""
    runner = SimulatedRunner(threads_matter, datasets=1, trial_s=10)
    tuner = bench.tuner(runner, budget_s=600.0)
    run_all(tuner)
    assert 540 <= runner.now <= 600
    assert sum(record.role is Role.FINAL for record in tuner.records()) == 2 * PAIRS
    assert bench.listener.parts == sorted(bench.listener.parts)
    assert bench.listener.parts[-1] > 0.9


def test_one_trial_measures_the_defaults(bench: Bench) -> None:
    """--trials 1 is the default and nothing else."""
    tuner = bench.tuner(SimulatedRunner(flat), trials=1)
    run_all(tuner)
    assert [record.role for record in tuner.records()] == [Role.DEFAULT]


def test_a_quota_puts_the_default_outside_the_space(bench: Bench) -> None:
    """The default is measured as TensorFlow does it, though the sampler can't represent it."""
    bench.machine = machine(affinity=64, quota=2.0, cores=32)
    tuner = bench.tuner(SimulatedRunner(threads_matter), trials=6)
    run_all(tuner)
    assert bench.study.trials[0].params == {}
    assert tuner.facts.space.default["intra_op"] == 64
    assert all(t.params.get("intra_op", 1) <= 2 for t in bench.study.trials)
    assert current_decision(tuner) is not None


def test_the_script_s_own_settings_are_a_candidate(bench: Bench) -> None:
    """What the script sets by itself is measured among the first trials."""
    own = Notice(kind="override", where="train.py:3", text="sets", knob="intra_op", value="2")
    variable = Notice(
        kind="override", where="train.py:1", text="sets", knob="TF_ENABLE_ONEDNN_OPTS", value="0"
    )
    tuner = bench.tuner(SimulatedRunner(threads_matter, notices=(own, variable)), trials=4)
    run_all(tuner)
    record = next(r for r in tuner.records() if r.role is Role.SCRIPT)
    assert (record.configuration["intra_op"], record.configuration["onednn"]) == (2, "0")
    decision = current_decision(tuner)
    assert decision is not None
    assert decision.own is not None


def test_data_knobs_only_for_scripts_with_a_pipeline(bench: Bench) -> None:
    """A script without a dataset of its own is not searched for map parallelism."""
    tuner = bench.tuner(SimulatedRunner(flat, datasets=0), trials=1)
    tuner.run_first_trials()
    assert list(tuner.facts.space.domains) == ["intra_op", "inter_op", "onednn"]


def test_the_step_is_pinned_after_the_default(bench: Bench) -> None:
    """All trials measure the step that the default showed."""
    runner = SimulatedRunner(flat)
    tuner = bench.tuner(runner, trials=3)
    run_all(tuner)
    assert [(r.source.value, r.phase) for r in runner.requests][:2] == [
        ("auto", None),
        ("keras", "fit"),
    ]


def test_a_study_of_something_else_is_refused(bench: Bench) -> None:
    """Another script under the same name would mix what can't be compared."""
    tuner = bench.tuner(SimulatedRunner(flat), trials=1)
    tuner.run_first_trials()
    identity = tuner.facts.identity
    check_same(bench.study, identity)
    with pytest.raises(UserError, match=r"tensorflow: 2\.21\.0 in the study, now 3\.0"):
        check_same(bench.study, dataclasses.replace(identity, tensorflow="3.0"))
    bench.script.write_text("changed")
    changed = identify(StudySpec(model=bench.script), bench.machine, BUILD)
    with pytest.raises(UserError, match="the script has changed"):
        check_same(bench.study, changed)


def test_names(bench: Bench) -> None:
    """A new study gets a free name; one in which nothing was measured is taken over."""
    storage = open_storage(default_url(bench.folder / ".autotune"), create=True)
    assert reusable_name(storage, "s") == "s"
    write_spec(create_study(storage, "s"), StudySpec(model=bench.script))
    assert reusable_name(storage, "s") == "s"
    bench.tuner(SimulatedRunner(flat), trials=1).run_first_trials()
    assert reusable_name(storage, "s") == "s-2"


def test_the_specification_is_kept(bench: Bench) -> None:
    """A study can be gone on with by its name alone."""
    bench.tuner(SimulatedRunner(flat))
    spec = StudySpec(
        model=bench.script,
        arguments=("a",),
        python=Path("/p"),
        knobs=("threads",),
        environment=(("A", "b"),),
        budget_s=60.0,
        sampler=SamplerName.RANDOM,
    )
    write_spec(bench.study, spec)
    assert read_spec(bench.study) == spec


@pytest.mark.parametrize("name", ["plain", "with space", "a/b", 'q"{}"', "ünï", "..", "x" * 300])
def test_folders_are_safe_and_distinct(name: str) -> None:
    """Whatever a study is called, its folder is one safe name, and another one's is another."""
    folder = folder_name(name)
    assert Path(folder).name == folder
    assert folder.isascii()
    assert len(folder) < 120
    assert folder not in (".", "..")
    assert folder_name(name + "!") != folder


def test_two_storages_do_not_share_a_folder(tmp_path: Path) -> None:
    """Studies of one name in two storages keep their files apart, and find them again."""
    folders = [claim_folder(tmp_path, "s", url) for url in ("a", "b", "a", "b")]
    assert folders[0] == folders[2] != folders[1] == folders[3]


@pytest.mark.parametrize("folder", ["plain", "with space", "br{ac}es", "qu'ote", "per%cent", "ünï"])
def test_databases_in_odd_folders(tmp_path: Path, folder: str) -> None:
    """A working directory with any name holds a database."""
    storage = open_storage(default_url(tmp_path / folder / ".autotune"), create=True)
    create_study(storage, "s")
    assert (tmp_path / folder / ".autotune" / "studies.db").is_file()
    storage.engine.dispose()
