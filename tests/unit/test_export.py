"""The exported files and what they say."""

import ast
import dataclasses
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from optuna.trial import TrialState

from autotuner.export.content import Export, code_settings
from autotuner.export.formats import (
    FILE_NAMES,
    Format,
    render_env,
    render_json,
    render_python,
    write_files,
)
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import AS_WRITTEN, Configuration
from autotuner.report.wording import describe, number, result_text
from autotuner.spec.study_spec import Objective, StudySpec
from autotuner.statistics.throughput import Throughput, Unit
from autotuner.study.identity import identify
from autotuner.study.record import Role, StudyFacts, TrialRecord
from autotuner.study.space import make_space
from autotuner.trial.outcome import Notice, Status
from autotuner.verdict.decision import Candidate, Decision
from autotuner.verdict.numerics import Numerics
from autotuner.verdict.sequential import Finding, Verdict
from tests.unit.test_knobs import BUILD
from tests.unit.test_machine import machine

BEST: Configuration = {
    "intra_op": 2,
    "inter_op": 1,
    "map_parallelism": "AUTOTUNE",
    "prefetch_depth": "4",
    "data_threads": AS_WRITTEN,
    "onednn": "0",
    "kmp_affinity": "granularity=fine,compact,1,0",
}


FASTER = Finding(verdict=Verdict.FASTER, ratio=1.25, low=1.2, high=1.3, pairs=5)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Return an export of a study with odd names in it."""
    script = tmp_path / "tr'ain $(touch hacked).py"
    script.touch()
    here = machine(affinity=4)
    space = make_space(tuple(BEST), machine=here, build=BUILD)
    facts = StudyFacts(
        identity=identify(StudySpec(model=script, arguments=("--x\nrm -rf /",)), here, BUILD),
        machine=here,
        build=BUILD,
        space=space,
        unit=Unit.SAMPLES,
        source="keras",
        phase="fit",
        folder=tmp_path,
        seed=0,
        objective=Objective.THROUGHPUT,
        base=100.0,
    )
    decision = Decision(
        best=Candidate(configuration=BEST, gain=1.3, trials=2),
        default=Candidate(configuration=space.default, gain=1.0, trials=1),
        recipe=None,
        own=None,
        finding=FASTER,
        configurations=20,
        numerics=Numerics(differs=True, text="results change a bit"),
    )
    notices = (
        Notice(
            kind="override", where="train.py:3", text="calls set_x(1)", knob="intra_op", value="1"
        ),
        Notice(kind="map_randomness", where="train.py:9", text="draws"),
    )
    return Export(
        study="s",
        created=datetime(2026, 11, 23, tzinfo=UTC),
        version="0.1.0",
        facts=facts,
        decision=decision,
        notices=notices,
        tuning_s=600.0,
    )


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


def test_without_data_knobs_the_module_is_short(export: Export) -> None:
    """Nothing is patched where nothing is to be changed."""
    plain: Configuration = {"intra_op": 2, "map_parallelism": AS_WRITTEN}
    best = Candidate(configuration=plain, gain=1.3, trials=2)
    decision = dataclasses.replace(export.decision, best=best)
    text = render_python(dataclasses.replace(export, decision=decision))
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
    export: Export, verdict: Verdict | None, anyway: bool
) -> None:
    """Unless the best is proven, the files hold TensorFlow's defaults and say why; or say so."""
    finding = None
    if verdict is not None:
        finding = dataclasses.replace(FASTER, verdict=verdict, low=0.99, ratio=1.01)
    decision = dataclasses.replace(export.decision, finding=finding, exported_anyway=anyway)
    changed = dataclasses.replace(export, decision=decision)
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


def test_disturbed_trials_say_so() -> None:
    """A trial during which others used the CPUs is marked."""
    throughput = Throughput(value=100.0, low=None, high=None, unit=Unit.STEPS, windows=1)
    record = TrialRecord(
        number=1,
        role=Role.SEARCH,
        configuration={},
        state=TrialState.COMPLETE,
        status=Status.MEASURED,
        reason="",
        throughput=throughput,
        folder="",
        elapsed_s=1.0,
        gain=2.0,
        gain_low=1.9,
        gain_high=2.1,
        others_cores=0.82,
    )
    assert result_text(record) == (
        "100 steps/s  2.00x (1.90-2.10)  (other processes used 0.8 CPUs meanwhile)"
    )
    slow = dataclasses.replace(record, others_cores=0.05, abandoned=True, gain_low=None)
    assert result_text(slow) == "100 steps/s  2.00x  (ended early: clearly slower)"
    default = dataclasses.replace(slow, role=Role.DEFAULT, abandoned=False)
    assert result_text(default) == "100 steps/s"


def test_wording() -> None:
    """Configurations are told by what differs; numbers have sensible digits."""
    assert describe({"intra_op": 1, "onednn": "1"}, {"intra_op": 2, "onednn": "1"}) == "intra_op=1"
    assert describe({"intra_op": 2}, {"intra_op": 2}) == "as the default"
    assert [number(v) for v in (12345.6, 123.4, 41.83, 0.5123)] == [
        "12,346",
        "123",
        "41.8",
        "0.512",
    ]
