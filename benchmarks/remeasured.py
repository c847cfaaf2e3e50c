"""Whole runs of the tool, and what they recommend measured again, in fresh processes."""

import dataclasses
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from scipy.special import stdtrit

from autotuner.export.exported import read_exported
from autotuner.knobs.catalogue import default_configuration
from autotuner.knobs.knob import Configuration
from autotuner.machine.host import inspect_machine
from autotuner.machine.lock import hold_machine
from autotuner.options.study_spec import Objective
from autotuner.options.workloads import load_workload
from autotuner.statistics.comparison import compare_rounds
from autotuner.statistics.throughput import Unit
from autotuner.study.record import configuration_key
from autotuner.trial.duel import DuelPlan
from autotuner.trial.outcome import Status
from autotuner.trial.probe import probe
from autotuner.trial.runner import ProcessRunner
from benchmarks.warm import mean_ratio, request_of

_TREE = Path(__file__).resolve().parent.parent
_MEASURE_S = 2.0
_BLOCK = 6


def run_tool(workload: str, options: Sequence[str], folder: Path) -> Configuration:
    """Run ``autotune run`` in a new folder, print its verdict, and return what it recommends."""
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "autotuner", "run", "--workload", workload, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_TREE)},
        check=True,
        capture_output=True,
        text=True,
    )
    found = next(folder.rglob("best.json"))
    print(f"  {json.loads(found.read_text())['result']['sentence']}", flush=True)
    return read_exported(found, inspect_machine()).configuration


def written_out(
    configurations: Sequence[Configuration], workload: str, folder: Path
) -> list[Configuration]:
    """Return configurations with a value for each of their knobs, so that equal ones look equal."""
    runner = ProcessRunner(dict(os.environ))
    python = Path(sys.executable)
    build = probe(load_workload(workload), python=python, folder=folder / "probe", runner=runner)
    names = tuple(dict.fromkeys(name for one in configurations for name in one))
    default = default_configuration(names, machine=inspect_machine(), build=build)
    return [{**default, **one} for one in configurations]


def measure_again(
    configurations: Sequence[Configuration], workload: str, processes: int, folder: Path
) -> Mapping[str, list[float]]:
    """Return log gains over the defaults by configuration key, of so many processes each.

    Each meets a resident process of the defaults, in a random order; all are started, not forked.
    """
    request = request_of(workload, Path(sys.executable), _MEASURE_S)
    plan = DuelPlan(measure_s=_MEASURE_S)
    wanted = {configuration_key(one): one for one in configurations}
    found: dict[str, list[float]] = {key: [] for key in wanted}
    queue = [key for key in wanted for _ in range(processes)]
    random.Random(0).shuffle(queue)
    with (
        ProcessRunner(dict(os.environ)) as runner,
        hold_machine("measure again", wait=False, report=print),
    ):
        while queue:
            with runner.reference(request, folder / "resident") as resident:
                for key in queue[:_BLOCK]:
                    asked = dataclasses.replace(request, configuration=wanted[key])
                    outcome = runner.duel(resident, asked, folder / "trial", plan)
                    assert outcome.status is Status.MEASURED, outcome.reason
                    gain = compare_rounds(
                        outcome.rounds, outcome.closing, Objective.THROUGHPUT, Unit.STEPS
                    )
                    if gain is None:
                        break  # the resident has come to its end: again, with another
                    found[key].append(math.log(gain.gain))
                    queue.remove(key)
    return found


def as_ratio(logs: Sequence[float]) -> str:
    """Return a mean ratio with its 95 % interval."""
    centre, low, high = mean_ratio(logs)
    return f"{centre:.3f} ({low:.3f}-{high:.3f})"


def as_difference(first: Sequence[float], second: Sequence[float]) -> str:
    """Return the ratio of two means with its 95 % interval (Welch's)."""
    a, b = (stdev(one) ** 2 / len(one) for one in (first, second))
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(a + b)
    centre, low, high = (math.exp(mean(first) - mean(second) + d) for d in (0.0, -half, half))
    return f"{centre:.3f} ({low:.3f}-{high:.3f})"


def compared(
    logs: Mapping[str, list[float]], first: Configuration, second: Configuration
) -> tuple[str, str, str]:
    """Return both configurations' ratios over the defaults, and the first's over the second's."""
    one, other = (configuration_key(side) for side in (first, second))
    between = "the same" if one == other else as_difference(logs[one], logs[other])
    return as_ratio(logs[one]), as_ratio(logs[other]), between
