"""The study's loop on a simulated runner and a real SQLite database."""

import dataclasses
import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from autotuner.errors import ScriptFailedError, UserError
from autotuner.knobs.knob import Configuration
from autotuner.knobs.liveness import KnobState
from autotuner.options.study_spec import Objective, Pairing, SamplerName, StudySpec
from autotuner.stages.final import Final, decide_on
from autotuner.stages.loop import repeat, search
from autotuner.stages.race import Race
from autotuner.stages.session import Session
from autotuner.statistics.sequential import FIRST_LOOK, Verdict
from autotuner.study.elapsed import begin_run, finish_run
from autotuner.study.folders import claim_folder
from autotuner.study.identity import identify
from autotuner.study.import_trials import check_source, import_trials
from autotuner.study.memory import SPEC, Memory
from autotuner.study.noise import Method
from autotuner.study.record import Role, TrialRecord, configuration_key
from autotuner.study.storage import default_url, open_database, open_storage
from autotuner.study.studies import create_study, is_idle, matching_name, reusable_name
from autotuner.study.workers import is_alive, this_worker, worker_name
from autotuner.testing.simulated import SimulatedRunner
from autotuner.trial.outcome import Notice, Outcome, Status
from autotuner.verdict.decision import Decision, candidates, count_finals
from autotuner.verdict.sentences import sentence
from tests.fakes import (
    BUILD,
    Bench,
    crash_with_many,
    machine,
    noise_of,
    run_all,
    run_first_trials,
    threads_matter,
)

NO_PIPELINE: dict[str, list[object]] = {"sites": [], "loops": []}
PIPELINE = {
    "sites": [
        {"op": "map", "where": "train.py:5", "parallel": "AUTOTUNE"},
        {"op": "iterate", "where": "train.py:9"},
    ]
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench in a folder of its own."""
    return Bench(tmp_path)


def flat(configuration: Configuration) -> float:
    """Return the same speed for every configuration."""
    return 100.0


def decision(session: Session) -> Decision:
    """Return the decision on a study that has been run."""
    found = decide_on(session.known())
    assert found is not None
    return found


def of_role(session: Session, *roles: Role) -> list[TrialRecord]:
    """Return the records of some roles."""
    return [record for record in session.trials.records() if record.role in roles]


@pytest.mark.parametrize("sampler", list(SamplerName))
def test_a_study_finds_the_best_and_confirms_it(bench: Bench, sampler: SamplerName) -> None:
    """Default first, then the recipe, then the sampler; at the end fresh pairs."""
    bench.on_disk = True
    runner = SimulatedRunner(threads_matter)
    session = bench.session(runner, trials=32, sampler=sampler)
    run_all(session)
    roles = [record.role for record in session.trials.records()]
    assert roles[:4] == [Role.DEFAULT, Role.CONTROL, Role.CONTROL, Role.RECIPE]
    assert roles.count(Role.SEARCH) == 30
    assert roles.count(Role.RACE) >= 3
    assert roles.count(Role.FINAL) >= 2 * FIRST_LOOK
    assert runner.requests[0].configuration == {}
    found = decision(session)
    best = found.best.configuration
    assert (best["intra_op"], best["onednn"]) == (2, "0")
    assert found.verdict is Verdict.FASTER
    assert found.finding is not None
    assert found.finding.ratio == pytest.approx(1.32, rel=0.04)
    assert found.finding.low is not None
    assert found.finding.high is not None
    assert found.finding.low < 1.32 < found.finding.high
    assert found.is_recommended
    assert sentence(found, session.facts.objective).startswith("FASTER: 1.3")


def test_final_pairs_alternate_their_order(bench: Bench) -> None:
    """A machine that slows down steadily favours neither side."""
    session = bench.session(SimulatedRunner(threads_matter), trials=32)
    run_all(session)
    firsts = [bool(r.configuration) for r in of_role(session, Role.FINAL)][::2]
    assert firsts == [bool(k % 2) for k in range(len(firsts))]


def test_no_gain_keeps_the_defaults(bench: Bench) -> None:
    """On a flat landscape the luckiest trial is not reported as faster."""
    session = bench.session(SimulatedRunner(flat, process=0.005, seed=4), trials=32)
    run_all(session)
    found = decision(session)
    assert found.best.gain > 1.0
    assert found.verdict is Verdict.NO_DIFFERENCE
    assert found.recommended == found.default
    assert "Keep the defaults" in sentence(found, session.facts.objective)


def test_a_slower_finalist_is_called_slower(bench: Bench) -> None:
    """The only candidate is slower, so the files hold the defaults."""

    def slow(configuration: Configuration) -> float:
        return 100.0 if not configuration or configuration.get("intra_op", 4) == 4 else 80.0

    session = bench.session(SimulatedRunner(slow), trials=4, knobs=("intra_op",))
    run_all(session)
    found = decision(session)
    assert found.verdict is Verdict.SLOWER
    assert not found.is_recommended


def test_drift_is_out_of_the_gains(bench: Bench) -> None:
    """The machine slows down by a factor of two: trials are compared with what ran beside them."""
    runner = SimulatedRunner(flat, process=0.005, noise=0.01, drift=lambda now: 2 ** (-now / 400))
    session = bench.session(runner, trials=20)
    run_first_trials(session)
    search(session)
    records = of_role(session, Role.SEARCH)
    assert all(r.gain == pytest.approx(1.0, abs=0.05) for r in records)
    raw = [r.throughput.value for r in records if r.throughput is not None]
    assert min(raw) < 0.8 * max(raw)
    values = [trial.value for trial in bench.study.trials if trial.value is not None]
    assert max(values) < 1.1 * min(values)


def test_without_duels_controls_run_between_trials(bench: Bench) -> None:
    """A script must not be stopped: its trials are compared with the latest control."""
    runner = SimulatedRunner(threads_matter, process=0.005, drift=lambda now: 2 ** (-now / 600))
    session = bench.session(runner, trials=20, pairing=Pairing.SEQUENTIAL)
    run_all(session)
    assert runner.duels == 0
    assert noise_of(session).method is Method.SEQUENTIAL
    assert noise_of(session).why == "as requested"
    assert len(of_role(session, Role.CONTROL)) >= 5
    assert decision(session).verdict is Verdict.FASTER


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"complete": False}, "too short"),
        ({"step_s": 3.0}, "longer than a turn"),
        ({"source": "process"}, "as a whole"),
        ({"peak_bytes": lambda configuration: 2**44}, "memory"),
        ({"reference_duels": 0}, "too soon"),
    ],
)
def test_where_duels_do_not_work(bench: Bench, fields: dict[str, Any], why: str) -> None:
    """The fall-back is reported with its reason."""
    session = bench.session(SimulatedRunner(flat, **fields), trials=3)
    run_first_trials(session)
    assert noise_of(session).method is Method.SEQUENTIAL
    assert why in noise_of(session).why + "".join(bench.recorder.remarks)
    assert sum("no duels" in remark for remark in bench.recorder.remarks) <= 1
    assert all(r.gain is not None for r in session.trials.records())


def test_a_script_that_fails_when_it_is_stopped(bench: Bench) -> None:
    """The defaults run alone but fail in a duel: from then on there are no duels."""
    runner = SimulatedRunner(flat)
    duel = runner.duel

    def fail(*args: Any, **kwargs: Any) -> Outcome:
        outcome = duel(*args, **kwargs)
        return dataclasses.replace(outcome, status=Status.CRASHED, reason="lost its connection")

    runner.duel = fail  # type: ignore[method-assign]
    session = bench.session(runner, trials=3)
    run_all(session)
    assert "lost its connection" in noise_of(session).why
    assert decision(session).finding is not None


def test_references_are_replaced_when_their_script_ends(bench: Bench) -> None:
    """When a script of a few minutes ends, a new reference starts, and no trial is lost."""
    session = bench.session(SimulatedRunner(threads_matter, reference_duels=4), trials=20)
    run_all(session)
    assert noise_of(session).method is Method.DUEL
    assert all(r.gain is not None for r in of_role(session, Role.SEARCH))
    assert len(list((session.target.folder / "references").iterdir())) >= 4


def test_slow_configurations_end_early(bench: Bench) -> None:
    """A trial clearly slower than the best is not measured to its end; its gain is recorded."""

    def terrible(configuration: Configuration) -> float:
        return 30.0 if configuration.get("onednn", "1") == "0" else 100.0

    session = bench.session(SimulatedRunner(terrible, rounds=12, noise=0.05), trials=20)
    run_all(session)
    search = of_role(session, Role.SEARCH)
    slow = [r for r in search if r.configuration["onednn"] == "0"]
    assert slow
    assert all(r.abandoned and r.gain == pytest.approx(0.3, rel=0.1) for r in slow)
    assert all(r.state is TrialState.COMPLETE for r in slow)
    assert not any(r.abandoned for r in search if r not in slow)
    assert not any(r.abandoned for r in of_role(session, Role.RACE, Role.CONTROL, Role.FINAL))


def test_disturbed_pairs_do_not_count(bench: Bench) -> None:
    """Pairs during which a hog runs are repeated, and the result reports them."""
    hog = {"from": 1e9}
    runner = SimulatedRunner(threads_matter, others=lambda now: 1.5 if now > hog["from"] else 0.0)
    session = bench.session(runner, trials=12)
    run_first_trials(session)
    search(session)
    repeat(session, Race())
    hog["from"] = runner.now + 25  # in the first pairs, then it goes
    runner.others = lambda now: 1.5 if hog["from"] < now < hog["from"] + 60 else 0.0
    repeat(session, Final())
    found = decision(session)
    assert found.disturbed_pairs >= 2
    assert found.verdict is Verdict.FASTER
    finals = of_role(session, Role.FINAL)
    assert found.finding is not None
    assert len(finals) == 2 * (found.finding.pairs + found.disturbed_pairs)


@pytest.mark.parametrize("objective", list(Objective))
def test_objectives(bench: Bench, objective: Objective) -> None:
    """Values keep the unit and the direction; the gain is more than 1 where it is better."""
    session = bench.session(SimulatedRunner(threads_matter), trials=32, objective=objective)
    run_all(session)
    found = decision(session)
    assert found.best.configuration["intra_op"] == 2
    assert found.verdict is Verdict.FASTER
    unit = {"throughput": "steps/s", "cpu-efficiency": "steps/CPU s"}.get(objective.value, "ms")
    assert session.facts.score_unit == unit
    best = bench.study.best_trial.user_attrs["gain"]
    assert best == max(r.gain for r in session.trials.records() if r.gain is not None)


def test_limits_exclude_configurations(bench: Bench) -> None:
    """A configuration that needs too much memory is never recommended, even if it is fastest."""

    def peak(configuration: Configuration) -> int:
        return 2**33 if configuration.get("onednn", "1") == "0" else 2**30

    runner = SimulatedRunner(threads_matter, peak_bytes=peak)
    session = bench.session(runner, trials=32, max_memory_bytes=2**31)
    run_all(session)
    over = [r for r in of_role(session, Role.SEARCH) if r.configuration["onednn"] == "0"]
    assert over
    assert all(r.status is Status.OVER_LIMIT and r.state is TrialState.PRUNED for r in over)
    assert "8,192 MiB, allowed 2,048 MiB" in over[0].reason
    assert decision(session).best.configuration["onednn"] == "1"
    assert decision(session).verdict is Verdict.FASTER


def test_latency_limit(bench: Bench) -> None:
    """A p99 above the limit counts as a failure of the configuration."""
    runner = SimulatedRunner(lambda c: 100.0 if not c else 50.0)
    session = bench.session(runner, trials=4, max_latency_p99_s=0.015)
    run_all(session)
    assert {r.status for r in of_role(session, Role.SEARCH)} == {Status.OVER_LIMIT}
    assert decision(session).is_default


def different_losses(configuration: Configuration) -> list[list[float]]:
    """Return other losses where two threads run inside an op."""
    return [[0.5 if configuration.get("intra_op", 4) != 2 else 0.6]] * 5


@pytest.mark.parametrize("strict", [False, True])
def test_the_numerical_guard(bench: Bench, strict: bool) -> None:
    """Changed results are reported, and refused on request."""
    runner = SimulatedRunner(threads_matter, numerics=different_losses)
    session = bench.session(runner, trials=32, strict_numerics=strict)
    run_all(session)
    found = decision(session)
    assert found.is_faster
    assert found.numerics is not None
    assert found.numerics.differs
    assert found.is_recommended is not strict


def test_a_second_final_asks_for_more(bench: Bench) -> None:
    """Each further search and final in a study is another chance to err: the level shrinks."""
    runner = SimulatedRunner(threads_matter)
    run_all(bench.session(runner, trials=8))
    again = bench.session(runner, trials=12)
    run_all(again)
    records = again.trials.records()
    assert count_finals(records) == 2
    last_search = max(r.number for r in records if r.role is Role.SEARCH)
    assert any(r.role is Role.FINAL and r.number > last_search for r in records)
    assert decision(again).finding is not None


def test_a_small_space_is_enumerated_once(bench: Bench) -> None:
    """No trial is spent on a repeat when there are fewer points than trials."""
    session = bench.session(SimulatedRunner(threads_matter), trials=100)
    run_all(session)
    space = session.facts.space
    tried = [
        configuration_key({**space.default, **record.configuration})
        for record in session.trials.records()
        if record.role not in (Role.FINAL, Role.RACE, Role.CONTROL)
    ]
    assert space.size == 4 * 4 * 2
    assert sorted(set(tried)) == sorted(tried)
    assert len(tried) == space.size


def test_the_sampler_learns_from_crashes(bench: Bench) -> None:
    """A crash gets the state PRUNED, from which samplers learn, and later trials avoid it."""
    session = bench.session(SimulatedRunner(crash_with_many, inspection=PIPELINE), trials=60)
    run_all(session)
    search = [record for record in session.trials.records() if record.role is Role.SEARCH]
    crashed = [record.status is Status.CRASHED for record in search]
    states = {record.state for record in search if record.status is Status.CRASHED}
    assert states == {TrialState.PRUNED}
    assert sum(crashed[-30:]) < 30 / 3  # half of the space crashes


def test_a_failing_default_stops_the_study(bench: Bench) -> None:
    """Nothing can be compared with a default that does not run."""
    session = bench.session(SimulatedRunner(lambda configuration: Status.CRASHED), trials=10)
    with pytest.raises(ScriptFailedError, match="does not run with TensorFlow's defaults"):
        run_all(session)
    assert [trial.state for trial in bench.study.trials] == [TrialState.FAIL]


def test_an_interrupted_study_is_resumed(bench: Bench) -> None:
    """Ctrl-C fails the current trial and keeps all others, which count in the budget."""
    bench.on_disk = True
    runner = SimulatedRunner(threads_matter)

    def interrupt(count: int) -> None:
        if count == 8:
            raise KeyboardInterrupt

    runner.before_run = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_all(bench.session(runner, trials=20))
    states = [trial.state for trial in bench.study.trials]
    assert states == [TrialState.COMPLETE] * 7 + [TrialState.FAIL]  # and a reference
    runner.before_run = lambda count: None
    session = bench.session(runner, trials=20)
    run_all(session)
    records = [r for r in session.trials.records() if r.state is TrialState.COMPLETE]
    assert sum(record.role is Role.DEFAULT for record in records) == 1
    searched = (Role.DEFAULT, Role.RECIPE, Role.SEARCH)
    assert sum(record.role in searched for record in records) == 20
    count = len(session.trials.records())
    run_all(bench.session(runner, trials=20))
    assert len(session.trials.records()) == count


def test_killed_before_the_defaults_were_reported(bench: Bench) -> None:
    """A study with facts but without a trial of the defaults runs the defaults again."""
    bench.on_disk = True
    runner = SimulatedRunner(threads_matter)
    session = bench.session(runner, trials=3)
    run_first_trials(session)
    storage = open_storage(default_url(bench.folder / ".autotune"), create=False)
    study_id = storage.get_study_id_from_name("s")
    other = create_study(storage, "copy", Objective.THROUGHPUT)
    for key, value in storage.get_study_user_attrs(study_id).items():
        other.set_user_attr(key, value)
    optuna.delete_study(study_name="s", storage=storage)
    renamed = create_study(storage, "s", Objective.THROUGHPUT)
    for key, value in other.user_attrs.items():
        renamed.set_user_attr(key, value)
    session = bench.session(runner, trials=3)
    run_all(session)
    assert session.trials.records()[0].role is Role.DEFAULT
    assert decision(session).default.trials


def test_a_dead_process_s_trials_are_swept(bench: Bench) -> None:
    """RUNNING trials of a dead process are failed; those of a living one are kept."""
    bench.on_disk = True
    session = bench.session(SimulatedRunner(flat), trials=3)
    dead, living = bench.study.ask(), bench.study.ask()
    dead.set_user_attr("owner", this_worker().signature(60).replace('"pid": ', '"pid": 9999'))
    living.set_user_attr("owner", this_worker().signature(60))
    bench.study.enqueue_trial({"intra_op": 1})
    assert not is_idle(bench.study)
    assert session.trials.sweep() == 1
    states = [trial.state for trial in bench.study.trials]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.FAIL]
    assert "died" in bench.study.trials[0].user_attrs["reason"]


def test_a_time_budget_leaves_room_for_the_final(bench: Bench) -> None:
    """With ten minutes and trials of ten seconds, search and final end in time."""
    runner = SimulatedRunner(threads_matter, inspection=PIPELINE, trial_s=10)
    session = bench.session(runner, budget_s=600.0)
    run_all(session)
    assert 500 <= runner.now <= 630
    assert len(of_role(session, Role.FINAL)) >= 2 * FIRST_LOOK
    assert bench.recorder.parts == sorted(bench.recorder.parts)
    assert bench.recorder.parts[-1] >= 0.9  # what is left is too short for two pairs


def test_one_trial_measures_the_defaults(bench: Bench) -> None:
    """With --trials 1 only the defaults run."""
    session = bench.session(SimulatedRunner(flat), trials=1)
    run_all(session)
    assert [record.role for record in session.trials.records()] == [Role.DEFAULT]


def test_a_quota_puts_the_default_outside_the_space(bench: Bench) -> None:
    """TensorFlow's own defaults are measured, though the sampler can't represent them."""
    bench.machine = machine(affinity=64, quota=2.0, cores=32)
    session = bench.session(SimulatedRunner(threads_matter), trials=6)
    run_all(session)
    assert bench.study.trials[0].params == {}
    assert session.facts.space.default["intra_op"] == 64
    assert all(t.params.get("intra_op", 1) <= 2 for t in bench.study.trials)
    assert decision(session).configurations > 1


def test_the_script_s_own_settings_are_a_candidate(bench: Bench) -> None:
    """The script's own settings are measured among the first trials."""
    own = Notice(kind="override", where="train.py:3", text="sets", knob="intra_op", value="2")
    variable = Notice(
        kind="override", where="train.py:1", text="sets", knob="TF_ENABLE_ONEDNN_OPTS", value="0"
    )
    session = bench.session(SimulatedRunner(threads_matter, notices=(own, variable)), trials=4)
    run_all(session)
    record = next(r for r in session.trials.records() if r.role is Role.SCRIPT)
    assert (record.configuration["intra_op"], record.configuration["onednn"]) == (2, "0")
    assert decision(session).own is not None


def test_data_knobs_only_for_scripts_with_a_pipeline(bench: Bench) -> None:
    """Map parallelism is not searched for a script without a dataset of its own."""
    session = bench.session(SimulatedRunner(flat, inspection=NO_PIPELINE), trials=2)
    run_first_trials(session)
    assert list(session.facts.space.domains) == ["intra_op", "inter_op", "onednn"]


def test_data_knobs_are_searched_for_a_pipeline(bench: Bench) -> None:
    """The findings of the inspection decide, and the study keeps them."""
    session = bench.session(SimulatedRunner(flat, inspection=PIPELINE), trials=2)
    run_first_trials(session)
    assert "map_parallelism" in session.facts.space.domains
    assert "interleave_parallelism" not in session.facts.space.domains
    again = bench.session(SimulatedRunner(flat), trials=2)
    assert again.facts.evidence == session.facts.evidence
    states = {one.knob: one.state for one in again.facts.liveness}
    assert states["map_parallelism"] is KnobState.LIVE
    assert states["interleave_parallelism"] is KnobState.INERT


def test_the_step_is_pinned_after_the_default(bench: Bench) -> None:
    """All trials measure the step that the default showed."""
    runner = SimulatedRunner(flat)
    session = bench.session(runner, trials=3)
    run_all(session)
    assert [(r.source.value, r.phase) for r in runner.requests][:2] == [
        ("auto", None),
        ("keras", "fit"),
    ]


def test_a_study_of_another_script_is_not_resumed(bench: Bench) -> None:
    """Another script with the same name gets a study of its own: their trials can't be compared."""
    session = bench.session(SimulatedRunner(flat), trials=1)
    run_first_trials(session)
    identity = session.facts.identity
    storage = bench.storage
    assert matching_name(storage, "s", identity, ()) == ("s", [])
    other = dataclasses.replace(identity, tensorflow="3.0")
    name, why = matching_name(storage, "s", other, ())
    assert name == "s-2"
    assert why == ["tensorflow: 2.21.0 in the study, now 3.0"]
    assert matching_name(storage, "s", identity, ("threads",)) == (
        "s-2",
        ["knobs: safe in the study, now threads"],
    )
    # the user's own study, and one of another version of autotune, are passed over
    optuna.create_study(storage=storage, study_name="s-2")
    older = optuna.create_study(storage=storage, study_name="s-3")
    older.set_user_attr("spec", {"schema": 3, "value": {}})
    assert matching_name(storage, "s", other, ()) == ("s-4", why)
    bench.script.write_text("changed")
    changed = identify(StudySpec(model=bench.script), bench.machine, BUILD)
    assert "the script has changed" in matching_name(storage, "s", changed, ())[1][0]


def test_trials_are_imported(bench: Bench, tmp_path: Path) -> None:
    """The sampler learns from them, the best are run again, and none of them counts."""
    bench.on_disk = True
    run_all(bench.session(SimulatedRunner(threads_matter), trials=12, pairs=0))
    source = check_source(bench.study, Objective.THROUGHPUT)
    runner = SimulatedRunner(threads_matter)
    optuna.delete_study(study_name="s", storage=bench.storage)
    session = bench.session(runner, trials=8, pairs=0)
    run_first_trials(session)
    summary = import_trials(session.trials, session.facts, source)
    count = sum(r.role in (Role.RECIPE, Role.SEARCH) and r.gain is not None for r in source.records)
    assert summary.startswith(f"imported from s: {count} trials")
    assert import_trials(session.trials, session.facts, source).startswith(
        "imported from s: 0 trials"
    )
    before = len(runner.requests)
    search(session)
    best = max((r for r in source.records if r.role is Role.SEARCH), key=lambda r: r.gain or 0)
    assert runner.requests[before].configuration == best.configuration
    assert len(of_role(session, Role.IMPORTED)) == count
    assert len(of_role(session, Role.DEFAULT, Role.RECIPE, Role.SEARCH)) == 8
    assert all(
        c.trials <= 8 for c in candidates(session.trials.records(), session.facts.space.default)
    )
    measured = {
        r.key(session.facts.space.default) for r in session.trials.records() if r.throughput
    }
    pooled = candidates(session.trials.records(), session.facts.space.default)
    assert {configuration_key(c.configuration) for c in pooled} <= measured


def test_trials_of_another_objective_are_not_imported(bench: Bench) -> None:
    """A latency can't be compared with a throughput."""
    session = bench.session(SimulatedRunner(flat), trials=1)
    run_first_trials(session)
    with pytest.raises(UserError, match="measured by throughput, this study by latency-p50"):
        check_source(bench.study, Objective.LATENCY_P50)


def test_an_interrupted_run_keeps_its_budget(bench: Bench) -> None:
    """An interrupted run has used part of it; a new budget, or a finished run, starts anew."""
    bench.session(SimulatedRunner(flat))
    study = bench.study
    memory = Memory(study)
    assert begin_run(study, memory, anew=True) == 0
    begun = datetime.now()
    for start in (0, 70, 500):  # the long gap is not tuning
        study.add_trial(optuna.trial.create_trial(value=1.0))
        trial = study.get_trials(deepcopy=False)[-1]
        trial.datetime_start = begun + timedelta(seconds=start)
        trial.datetime_complete = begun + timedelta(seconds=start + 20)
    assert begin_run(study, memory, anew=False) == pytest.approx(90 + 20, abs=1)
    assert begin_run(study, memory, anew=True) == 0
    finish_run(memory)
    assert begin_run(study, memory, anew=False) == 0


def test_time_already_spent_counts(bench: Bench) -> None:
    """A run with one minute left tries fewer configurations than a run with ten."""
    tried = []
    for spent_s in (0.0, 540.0):
        runner = SimulatedRunner(flat, trial_s=10)
        session = bench.session(runner, spent_s=spent_s, budget_s=600.0, pairs=0)
        before = len(session.trials.records())
        run_first_trials(session)
        search(session)
        tried.append(len(session.trials.records()) - before)
    assert tried[1] < tried[0] / 2


def test_whether_the_worker_of_a_trial_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process lives; one on another host may, until its trial must have ended."""
    mine = this_worker().signature(60)
    assert is_alive(mine, {})
    assert not is_alive(mine.replace('"pid": ', '"pid": 9999'), {})
    assert not is_alive(mine.replace(json.loads(mine)["boot"], "another"), {})
    assert not is_alive("no signature", {})
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert is_alive(mine, {})
    late = this_worker().signature(60).replace("elsewhere", "third")
    assert not is_alive(late.replace('"until": ', '"until": -'), {})
    assert worker_name(mine).startswith(f"process {os.getpid()} on ")
    assert worker_name("no signature") == "an unknown process"


def test_names(bench: Bench) -> None:
    """A new study gets a free name; that of a study without measurements is used again."""
    bench.on_disk = True
    storage = open_storage(default_url(bench.folder / ".autotune"), create=True)
    assert reusable_name(storage, "s") == "s"
    spec = StudySpec(model=bench.script)
    Memory(create_study(storage, "s", Objective.THROUGHPUT)).write(SPEC, spec)
    assert reusable_name(storage, "s") == "s"
    run_first_trials(bench.session(SimulatedRunner(flat), trials=1))
    assert reusable_name(storage, "s") == "s-2"


def test_the_specification_is_kept(bench: Bench) -> None:
    """A study can be resumed by its name alone."""
    bench.session(SimulatedRunner(flat))
    spec = StudySpec(
        model=bench.script,
        arguments=("a",),
        python=Path("/p"),
        knobs=("threads",),
        environment=(("A", "b"),),
        budget_s=60.0,
        sampler=SamplerName.RANDOM,
    )
    Memory(bench.study).write(SPEC, spec)
    assert Memory(bench.study).read(SPEC) == spec


def test_two_storages_do_not_share_a_folder(tmp_path: Path) -> None:
    """Studies with the same name in two storages keep their files apart, and find them again."""
    folders = [claim_folder(tmp_path, "s", url) for url in ("a", "b", "a", "b")]
    assert folders[0] == folders[2] != folders[1] == folders[3]


@pytest.mark.parametrize("folder", ["plain", "with space", "br{ac}es", "qu'ote", "per%cent", "ünï"])
def test_databases_in_odd_folders(tmp_path: Path, folder: str) -> None:
    """A working directory with any name holds a database."""
    storage = open_database(default_url(tmp_path / folder / ".autotune"), create=True)
    create_study(storage, "s", Objective.THROUGHPUT)
    assert (tmp_path / folder / ".autotune" / "studies.db").is_file()
    storage.engine.dispose()
