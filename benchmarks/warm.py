"""``make bench-warm``: forked trials against started ones, interleaved in one run.

1. What a trial takes besides measuring (goal: at most 40 % of a started one's for mlp_train), and
   what that is made of.
2. Throughput of forked over started processes: both meet the same resident of the defaults.
3. 300 forks in a row: hangs, threads that are not as asked for, what the parent has left over.
4. Memory that a forked process shares (PSS against RSS).

    python -m benchmarks.warm [--pairs 8] [--forks 300] [--python PATH]
"""

import argparse
import dataclasses
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev

import psutil
from scipy.special import stdtrit

from autotuner.machine.lock import hold_machine
from autotuner.options.study_spec import Objective, Timing
from autotuner.options.workloads import load_workload
from autotuner.statistics.comparison import compare_rounds
from autotuner.statistics.throughput import Unit
from autotuner.trial.duel import DuelPlan
from autotuner.trial.outcome import STAGES, Outcome, Status
from autotuner.trial.request import TrialRequest, WarmStart, arguments_of, script_of
from autotuner.trial.runner import ProcessRunner

WORKLOADS = ("mlp_train", "cnn_train", "image_input")
_MEASURE_S = 1.5
WARM = WarmStart(modules=("tensorflow", "keras"), start_timeout_s=60)
_SCRIPT = """
import os
import tensorflow as tf
tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64)))
with open("/proc/self/smaps_rollup") as lines:
    print({line.split()[0]: int(line.split()[1]) for line in lines if line[:4] in ("Rss:", "Pss:")})
from autotuner import step
while True:
    tf.linalg.matmul(tf.ones((8, 8)), tf.ones((8, 8)))
    step()
"""


def request_of(workload: str, python: Path, measure_s: float) -> TrialRequest:
    """Return a trial of a workload's defaults."""
    spec = load_workload(workload)
    return TrialRequest(
        script=script_of(spec),
        arguments=arguments_of(spec),
        python=python,
        working_directory=Path.cwd(),
        environment=spec.environment,
        timing=Timing(measure_s=measure_s),
    )


def mean_ratio(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ratios, given their logarithms, and its 95 % interval."""
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    centre, low, high = (math.exp(mean(values) + d) for d in (0.0, -half, half))
    return centre, low, high


def interval(values: Sequence[float]) -> str:
    """Return a mean ratio of logarithms with its 95 % interval, as a text."""
    centre, low, high = mean_ratio(values)
    return f"{centre:.3f} (95 % interval {low:.3f} to {high:.3f}, {len(values)} pairs)"


def _measured(outcome: Outcome) -> Outcome:
    assert outcome.status is Status.MEASURED, outcome.reason
    return outcome


def besides(outcome: Outcome) -> float:
    """Return what a trial took besides its warm-up and its measurement, in seconds."""
    return sum(s for name, s in outcome.cost.stages.items() if name not in ("measure", "warmup"))


def bench_workload(workload: str, python: Path, pairs: int, folder: Path) -> None:
    """Print what forked trials of a workload take and do, over started ones."""
    request = request_of(workload, python, _MEASURE_S)
    plan = DuelPlan(measure_s=_MEASURE_S)
    stages: dict[bool, list[Outcome]] = {True: [], False: []}
    gains: list[float] = []
    with ProcessRunner(dict(os.environ)) as runner:
        for number in range(pairs):
            with runner.reference(request, folder / "resident") as resident:
                logs: dict[bool, float] = {}
                for warm in (True, False) if number % 2 else (False, True):
                    asked = dataclasses.replace(request, warm_start=WARM if warm else None)
                    outcome = _measured(runner.duel(resident, asked, folder / f"{warm}", plan))
                    assert outcome.facts.forked is warm, outcome.cold_reason
                    found = compare_rounds(
                        outcome.rounds, outcome.closing, Objective.THROUGHPUT, Unit.STEPS
                    )
                    if found is not None:
                        logs[warm] = math.log(found.gain)
                    if number or not warm:  # the first fork has the parent's import in it
                        stages[warm].append(outcome)
                gains.append(logs[True] - logs[False])
    took = {warm: median(map(besides, outcomes)) for warm, outcomes in stages.items()}
    print(f"\n{workload}: forked over started")
    print(f"  throughput {interval(gains)}")
    print(
        f"  besides warm-up and measuring: {took[True]:.2f} s over {took[False]:.2f} s, "
        f"{took[True] / took[False]:.0%}"
    )
    for name, text in STAGES.items():
        forked, started = (
            median(outcome.cost.stages[name] for outcome in stages[warm]) for warm in (True, False)
        )
        print(f"    {forked:5.2f} s  {started:5.2f} s  {text}")


def bench_forks(python: Path, forks: int, folder: Path) -> None:
    """Print what many forks in a row do to the children and to their parent."""
    script = folder / "script.py"
    script.write_text(_SCRIPT)
    quick = Timing(window_s=0.02, warmup_min_s=0.02, warmup_max_s=0.1, measure_s=0.05)
    request = TrialRequest(
        script=script, python=python, working_directory=folder, timing=quick, warm_start=WARM
    )
    wrong, failed, parent_states, shared, why = 0, 0, [], [], ""
    with ProcessRunner(dict(os.environ)) as runner:
        for number in range(forks):
            threads = {"intra_op": 1 + number % 4, "inter_op": 1 + number % 3}
            asked = dataclasses.replace(request, configuration=threads)
            outcome = runner.run(asked, folder / "fork")
            if outcome.status is not Status.MEASURED or not outcome.facts.forked:
                failed += 1
                why = why or outcome.cold_reason
                continue
            pools = outcome.facts.thread_pools
            wrong += pools.get("tf_Compute", threads["inter_op"]) != threads["inter_op"]
            memory = eval(outcome.log.read_text().splitlines()[-1])
            shared.append(1 - memory["Pss:"] / memory["Rss:"])
            parent_states.append(_parent_state())
    first, last = parent_states[1], parent_states[-1]
    print(
        f"\n{forks} forks in a row: {failed} failed or hung{f' ({why})' if why else ''}, {wrong} "
        f"with other threads than asked for\n  the parent after the second and the last: "
        f"descriptors {first[0]} and {last[0]}, threads {first[1]} and {last[1]}, "
        f"RSS {first[2]} and {last[2]} MiB\n  a forked process shares {median(shared):.0%} of its "
        f"memory (PSS against RSS)"
    )


def _parent_state() -> tuple[int, int, int]:
    for warden in psutil.Process().children():
        for process in warden.children():
            if "--warm" in process.cmdline():
                rss = process.memory_info().rss >> 20
                return process.num_fds(), process.num_threads(), rss
    return 0, 0, 0


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--forks", type=int, default=300)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    given = parser.parse_args()
    python = given.python.absolute()
    with (
        tempfile.TemporaryDirectory() as folder,
        hold_machine("bench-warm", wait=False, report=print),
    ):
        for workload in WORKLOADS:
            bench_workload(workload, python, given.pairs, Path(folder))
        bench_forks(python, given.forks, Path(folder))


if __name__ == "__main__":
    main()
