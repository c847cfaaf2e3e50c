"""Recorded surfaces: what is estimated from them, and the whole tool on a replay."""

import dataclasses
import math
import random
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from autotuner.knobs.knob import Configuration, KnobValue
from autotuner.options.study_spec import SamplerName
from autotuner.testing.calibration import BUILD, MACHINE
from autotuner.testing.course import course
from autotuner.testing.replay import ReplayRunner, Surface, load_surface
from autotuner.testing.strategies import BY_HAND, ByHand
from autotuner.testing.surface import Duel, Provenance, as_line
from autotuner.testing.traces import trace_by_hand, trace_ours
from autotuner.trial.outcome import Status
from autotuner.trial.request import TrialRequest, WarmStart
from tests.commands import TREE

AXES: dict[str, list[KnobValue]] = {
    "intra_op": [1, 2],
    "inter_op": [1, 2],
    "prefetch_depth": ["as_written", "0", "1", "4", "AUTOTUNE"],
    "onednn": ["0", "1"],
}
DEFAULT: Configuration = {
    "intra_op": 2,
    "inter_op": 2,
    "prefetch_depth": "as_written",
    "onednn": "1",
}
PROCESS, ROUND = 0.02, 0.03


def true_gain(point: Configuration) -> float:
    gain = 0.1 if point["intra_op"] == 1 else 0.0
    gain += {"4": 0.15, "AUTOTUNE": 0.1}.get(str(point["prefetch_depth"]), 0.0)
    return gain + (0.1 if point["intra_op"] == 1 and point["onednn"] == "0" else 0.0)


def crashes(point: Configuration) -> bool:
    return point["inter_op"] == 1 and point["prefetch_depth"] == "0"


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> Surface:
    """Make up a recording: blocks with a resident each, a drifting machine, noise everywhere."""
    folder = tmp_path_factory.mktemp("surfaces")
    provenance = Provenance(
        name="made_up",
        workload="mlp_train",
        axes=AXES,
        default=DEFAULT,
        recipe={**DEFAULT, "inter_op": 1},
        machine=dataclasses.asdict(dataclasses.replace(MACHINE, affinity_cpus=2)),
        build=dataclasses.asdict(BUILD),
        source="keras",
        phase="fit",
        unit="samples/s",
        step_s=0.01,
        slice_s=0.3,
        measure_s=1.5,
        diagnosis={
            "bottleneck": "input",
            "waits": 0.5,
            "overhead": 0.2,
            "compute": 0.3,
            "sentence": "input-bound",
        },
        diagnosis_s=10.0,
        saved_s=2.0,
        seed=1,
        begun="2026-11-25T00:00:00+00:00",
        commit="none",
    )
    generator = random.Random(1)
    grid = [dict(zip(AXES, values, strict=True)) for values in product(*AXES.values())]
    generator.shuffle(grid)
    lines, at_s = [as_line(provenance)], 0.0
    for number, start in enumerate(range(0, len(grid), 8)):
        resident = generator.gauss(0, PROCESS)
        for point in [{}, *grid[start : start + 8]]:
            at_s += 10.0
            drift = 0.3 * math.sin(at_s / 100)
            failed = bool(point) and crashes(point)
            own = true_gain({**DEFAULT, **point}) + generator.gauss(0, PROCESS)
            duel = Duel(
                configuration=point,
                resident=number,
                at_s=at_s,
                status=Status.CRASHED if failed else Status.MEASURED,
                ready_s=5.0,
                reference=() if failed else _rates(generator, 1000, resident + drift),
                candidate=() if failed else _rates(generator, 1000, own + drift),
                others=0.0,
            )
            lines.append(as_line(duel))
    (folder / "made_up.jsonl").write_text("".join(lines))
    return load_surface("made_up", folder)


def _rates(generator: random.Random, base: float, level: float) -> tuple[float, ...]:
    return tuple(base * math.exp(level + generator.gauss(0, ROUND)) for _ in range(6))


def test_the_truth_is_estimated(surface: Surface) -> None:
    """Smaller errors than a single duel's, honest standard errors, and the failures are known."""
    errors = {
        key: surface.truth[key] - true_gain({**DEFAULT, **point})
        for key, point in surface.points.items()
        if key in surface.truth
    }
    root_mean_square = math.sqrt(sum(e * e for e in errors.values()) / len(errors))
    assert root_mean_square < math.sqrt(2) * PROCESS  # of a duel, in which two processes meet
    inside = sum(abs(e) < 2 * surface.error[key] + 0.01 for key, e in errors.items())
    assert inside > 0.85 * len(errors)
    assert 0.5 * PROCESS < surface.spread.process < 2 * PROCESS
    assert surface.truth[surface.key(DEFAULT)] == 0.0
    assert set(surface.failed) == {
        key for key, point in surface.points.items() if crashes({**DEFAULT, **point})
    }
    assert true_gain({**DEFAULT, **surface.points[surface.best]}) > 0.3


def test_a_disturbed_process_is_left_out(surface: Surface, tmp_path: Path) -> None:
    """Measured once, at a third of its speed: what it is like is known from its kin."""
    point = {**DEFAULT, "intra_op": 1, "prefetch_depth": "4"}
    duels = [
        dataclasses.replace(duel, candidate=tuple(rate / 3 for rate in duel.candidate))
        if {**DEFAULT, **duel.configuration} == point
        else duel
        for duel in surface.duels
    ]
    lines = [as_line(surface.provenance), *(as_line(duel) for duel in duels)]
    (tmp_path / "made_up.jsonl").write_text("".join(lines))
    found = load_surface("made_up", tmp_path)
    assert found.outliers == surface.outliers + 1
    assert found.truth.keys() == surface.truth.keys()
    assert found.truth[found.key(point)] == pytest.approx(true_gain(point), abs=0.1)
    assert found.error[found.key(point)] > surface.error[found.key(point)]


def test_a_replay_is_the_same_for_the_same_seed(surface: Surface) -> None:
    """So that a table can be made again; another seed draws something else."""

    def values(seed: int) -> list[float | None]:
        trials = ByHand(surface, seed)
        return [trials.measure({}), trials.measure({"intra_op": 1})]

    assert values(1) == values(1)
    assert values(1) != values(2)


def test_its_processes_are_as_fast_as_recorded(surface: Surface) -> None:
    """On average, over many processes, drift and noise."""
    logs = []
    for seed in range(60):
        trials = ByHand(surface, seed)
        value = trials.measure({"intra_op": 1})
        assert value is not None
        logs.append(math.log(value / 100))
    assert sum(logs) / len(logs) == pytest.approx(
        surface.truth[surface.key({"intra_op": 1})], abs=0.1
    )
    assert ReplayRunner(surface, 0).now == 0.0


@pytest.mark.parametrize("name", list(BY_HAND))
def test_every_strategy_recommends_something(surface: Surface, name: str) -> None:
    """Within the time, from configurations that it has tried."""
    trace = trace_by_hand(name, surface, 1, minutes=6)
    assert trace.moments
    assert trace.moments[-1].minutes <= 6
    tried = [moment.tried for moment in trace.moments]
    assert tried == sorted(tried)
    assert surface.key(trace.moments[-1].recommended) in surface.truth


@pytest.mark.parametrize("sampler", [SamplerName.GP, SamplerName.TPE, SamplerName.RANDOM])
def test_the_whole_tool_runs_on_a_replay(surface: Surface, sampler: SamplerName) -> None:
    """Noise check, search, race and final, within a virtual budget; it ends near the best."""
    traces = [trace_ours(surface, seed, 8, sampler) for seed in (1, 2)]
    found = course(surface, traces, 8)
    assert all(trace.claims for trace in traces)
    assert max(found.final) < 0.12
    assert found.false_claims == 0
    assert all(moment.minutes < 12 for trace in traces for moment in trace.moments)


def test_the_clock_knows_of_forks(surface: Surface) -> None:
    """What a warm parent forks takes less, but not the first one, which waits for its imports."""
    runner = ReplayRunner(surface, 1)
    warm = WarmStart(modules=("tensorflow",), start_timeout_s=60)

    def takes(onednn: str, start: WarmStart | None) -> float:
        before = runner.now
        request = TrialRequest(
            script=Path("x"),
            python=Path("x"),
            working_directory=Path(),
            configuration={**DEFAULT, "onednn": onednn},
            warm_start=start,
        )
        outcome = runner.run(request, Path("x"))
        return runner.now - before - sum(window.duration_s for window in outcome.windows)

    assert takes("1", None) == pytest.approx(5.0)
    assert [takes("1", warm) for _ in range(3)] == pytest.approx([5.0, 3.0, 3.0])
    assert [takes("0", warm) for _ in range(2)] == pytest.approx([5.0, 3.0])  # read at the import


def test_the_page_of_results(surface: Surface, tmp_path: Path) -> None:
    """``benchmarks.search`` writes a table and a picture of each surface, and the goals."""
    lines = [as_line(surface.provenance), *map(as_line, surface.duels)]
    (tmp_path / "made_up.jsonl").write_text("".join(lines))
    options = ["--seeds", "1", "--minutes", "6", "--budget", "3", "--recordings", str(tmp_path)]
    options += ["--only", "autotune", "--only", "random", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.search", *options],
        cwd=TREE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "search-results.md").read_text()
    assert "## made_up" in page
    assert done.stdout.strip() in page
    assert "| autotune |" in page
    assert "10% of the grid): " in page
    picture = tmp_path / "pictures" / "search-made_up.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "(pictures/search-made_up.png)" in page
