"""``make bench-duels``: duels against pairs one after the other, on every reference workload.

TensorFlow's defaults meet themselves in pairs of fresh processes, by both methods in turns, so that
both see the same machine. A method is the better one if a second of it leaves less variance in the
ratio: the spread squared, times the time a pair takes. Also a script that feeds itself through
worker processes, which have to be stopped with it.

    python -m benchmarks.duels [--pairs 6] [--measure 4] [--only WORKLOAD]
"""

import argparse
import dataclasses
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

from autotuner.options.study_spec import Objective, StepSource, Timing
from autotuner.options.workloads import list_workloads
from autotuner.statistics.comparison import compare_rounds
from autotuner.statistics.throughput import Unit, summarize
from autotuner.trial.duel import DuelPlan
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import ProcessRunner

WORKERS = Path(__file__).parents[1] / "tests/end_to_end/scripts/worker_processes.py"


@dataclasses.dataclass
class Pairs:
    """Log ratios by one method, and the seconds that each took."""

    logs: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def cost(self) -> float:
        """Variance left by a second of measuring: variance of a pair times its length."""
        return stdev(self.logs) ** 2 * mean(self.seconds)


def step_of(runner: ProcessRunner, request: TrialRequest, folder: Path) -> tuple[Outcome, Unit]:
    """Run the script once, to learn what a step is."""
    outcome = runner.run(request, folder)
    assert outcome.status is Status.MEASURED, outcome.reason
    throughput = summarize(outcome, count_samples=True)
    assert throughput is not None
    return outcome, throughput.unit


def by_duel(
    runner: ProcessRunner, request: TrialRequest, folder: Path, plan: DuelPlan, unit: Unit
) -> float:
    """Return the log ratio of two fresh processes that duel."""
    folders = (folder / "first", folder / "second")
    _, second = runner.pair((request, request), folders, plan)
    assert second is not None
    assert second.status is Status.MEASURED, second.reason
    found = compare_rounds(second.rounds, second.closing, Objective.THROUGHPUT, unit)
    assert found is not None
    return math.log(found.gain)


def one_after_the_other(
    runner: ProcessRunner, request: TrialRequest, folder: Path, unit: Unit
) -> float:
    """Return the log ratio of two fresh processes that run one after the other."""
    rates = []
    for name in ("first", "second"):
        outcome = runner.run(request, folder / name)
        assert outcome.status is Status.MEASURED, outcome.reason
        throughput = summarize(outcome, count_samples=unit is Unit.SAMPLES)
        assert throughput is not None
        rates.append(throughput.value)
    return math.log(rates[1] / rates[0])


def bench(name: str, script: Path, arguments: tuple[str, ...], pairs: int, measure_s: float) -> str:
    """Return a line of the table."""
    runner = ProcessRunner(dict(os.environ))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        request = TrialRequest(
            script=script,
            arguments=arguments,
            python=Path(sys.executable),
            working_directory=folder,
            timing=Timing(measure_s=measure_s),
        )
        first, unit = step_of(runner, request, folder / "step")
        pinned = dataclasses.replace(
            request, source=StepSource(first.source or "auto"), phase=first.step_phase
        )
        step_s = sorted(first.step_s)[len(first.step_s) // 2]
        plan = DuelPlan(slice_s=min(2.0, max(0.3, 4 * step_s)), measure_s=measure_s)
        duels, others = Pairs(), Pairs()
        for _ in range(pairs):
            start = time.monotonic()
            duels.logs.append(by_duel(runner, pinned, folder / "duel", plan, unit))
            duels.seconds.append(time.monotonic() - start)
            start = time.monotonic()
            others.logs.append(one_after_the_other(runner, pinned, folder / "sequential", unit))
            others.seconds.append(time.monotonic() - start)
    return (
        f"| {name} | {1000 * step_s:.1f} ms "
        f"| {stdev(duels.logs):.1%} in {mean(duels.seconds):.0f} s "
        f"| {stdev(others.logs):.1%} in {mean(others.seconds):.0f} s "
        f"| {others.cost / duels.cost:.1f} | {math.exp(mean(duels.logs)):.3f} |"
    )


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--measure", type=float, default=4.0)
    parser.add_argument("--only", action="append")
    arguments = parser.parse_args()
    subjects = {name: (spec.model, spec.arguments) for name, spec in list_workloads().items()}
    subjects["worker processes"] = (WORKERS, ())
    print(
        f"{os.cpu_count()} CPUs, {arguments.pairs} pairs of the defaults with themselves by each "
        "method, in turns\n\n"
        "| workload | step | duels: spread | one after the other: spread "
        "| variance per second, sequential / duel | mean ratio in duels |\n"
        "|---|---|---|---|---|---|"
    )
    for name, (model, given) in subjects.items():
        if arguments.only is None or name in arguments.only:
            line = bench(name, model.absolute(), given, arguments.pairs, arguments.measure)
            print(line, flush=True)


if __name__ == "__main__":
    main()
