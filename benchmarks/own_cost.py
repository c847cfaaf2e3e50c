"""``make bench``: what the tool itself costs.

1. Start-up: ``autotune --help`` against ``python -c pass``, interleaved in one run.
2. The parent while a trial is being measured: CPU time per wall time (goal: below 1 % of a core)
   and resident memory (goal: below 200 MB).
3. Where a trial's wall time goes.
4. What a tick costs, and whether the throughput that is measured is the one that the script counts
   for itself, with our hooks and without them.
5. ``autotune exec`` with settings that change nothing, against the same script started without it.

Ratios with their range over the pairs; absolute times on a shared machine mean little.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev

import psutil
from scipy.special import stdtrit

from autotuner.options.study_spec import Timing
from autotuner.statistics.throughput import summarize
from autotuner.trial.request import CHILD_MAIN, TrialRequest
from autotuner.trial.runner import ProcessRunner

PAIRS = 15
AGREEMENT_PAIRS = 10
AUTOTUNE = [sys.executable, "-m", "autotuner"]


def seconds(command: list[str]) -> float:
    """Return the wall time of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def bench_start_up() -> None:
    """Print what ``autotune --help`` takes over ``python -c pass``."""
    bare = [sys.executable, "-c", "pass"]
    ours = [*AUTOTUNE, "--help"]
    pairs = [(seconds(ours), seconds(bare)) for _ in range(PAIRS)]
    ratios = sorted(a / b for a, b in pairs)
    extra_ms = median(a - b for a, b in pairs) * 1000
    print(
        f"start-up: autotune --help takes {median(ratios):.1f}x python -c pass "
        f"({ratios[0]:.1f}x to {ratios[-1]:.1f}x over {PAIRS} interleaved pairs), "
        f"{extra_ms:.0f} ms more here"
    )


def bench_parent(folder: Path) -> None:
    """Print the parent's CPU share and memory while trials are being measured."""
    line = [
        "run",
        "--workload",
        "mlp_train",
        "--trials",
        "3",
        "--measure-time",
        "10s",
        "--sequential",
    ]
    line += ["--effort", "fast", "--pairs", "0", "--json"]
    process = subprocess.Popen(
        [*AUTOTUNE, *line],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    parent = psutil.Process(process.pid)
    shares, warden_shares, peak = [], [], 0
    before: tuple[float, float, float] | None = None
    for text in process.stdout:
        event = json.loads(text)
        if event["event"] == "phase":
            peak = max(peak, parent.memory_info().rss)
            now, own, warden = time.monotonic(), _cpu_s(parent), _warden_cpu_s(parent)
            if event["phase"] == "measurement":
                before = (now, own, warden)
            elif event["phase"] == "exit" and before is not None:
                wall = now - before[0]
                shares.append((own - before[1]) / wall)
                warden_shares.append((warden - before[2]) / wall)
                before = None
    process.wait()
    print(
        f"parent while measuring: {100 * median(shares):.2f} % of a core "
        f"(largest {100 * max(shares):.2f} %, {len(shares)} trials of 10 s; goal below 1 %), "
        f"its warden {100 * median(warden_shares):.2f} %; memory {peak / 1e6:.0f} MB "
        f"(goal below 200 MB)"
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _warden_cpu_s(parent: psutil.Process) -> float:
    return sum(_cpu_s(child) for child in parent.children())


def bench_trial_time(folder: Path) -> None:
    """Print where the wall time of the trials above went."""
    shares: dict[str, list[float]] = {}
    for file in sorted(folder.glob(".autotune/studies/mlp_train/trials/*/events.jsonl")):
        events = [json.loads(line) for line in file.read_text().splitlines()]
        kinds = ("hello", "tensorflow", "stage", "done")
        times = {e.get("stage", e["event"]): e["t"] for e in events if e["event"] in kinds}
        order = ["hello", "tensorflow", "warmup", "measure", "done"]
        names = ["import TensorFlow", "script's own start", "warm-up", "measurement"]
        for name, first, last in zip(names, order, order[1:], strict=False):
            shares.setdefault(name, []).append(times[last] - times[first])
    total = sum(median(values) for values in shares.values())
    parts = ", ".join(f"{name} {median(v) / total:.0%}" for name, v in shares.items())
    print(f"a trial of mlp_train with 10 s of measuring: {parts}")


# counts its own steps: prints when each of its epochs ended
COUNTS_ITSELF = """
import time
import keras
import numpy as np

x = np.random.default_rng(0).standard_normal((6400, 64), dtype="float32")
y = (x[:, 0] > 0).astype("float32")
model = keras.Sequential(
    [
        keras.layers.Input((64,)),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile("adam", "binary_crossentropy")
ends = []
clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.monotonic()))
model.fit(x, y, batch_size=64, epochs=40, verbose=0, callbacks=[clock])
print("own clock:", *ends, flush=True)
"""
SAMPLES_PER_EPOCH, COLD_EPOCHS = 6400, 10


def _own_ends(text: str) -> list[float]:
    return [float(word) for word in text.split("own clock:")[1].split()]


def _own_rate(ends: list[float]) -> float:
    """Return samples per second of running between the first and the last of these times."""
    return SAMPLES_PER_EPOCH * (len(ends) - 1) / (ends[-1] - ends[0])


def bench_tick() -> None:
    """Print what one tick costs, with the windows that it fills."""
    code = (
        "import importlib, importlib.util, os, sys, time, types\n"
        "package = types.ModuleType('child'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['child'] = package\n"
        "steps = importlib.import_module('child.steps')\n"
        "events = importlib.import_module('child.event_pipe')\n"
        "meter = importlib.import_module('child.meter')\n"
        "pipe = events.EventPipe(os.open('/dev/null', os.O_WRONLY))\n"
        "rule = meter.Rule(0.1, 0.1, 0.1, 1e9)\n"
        "read, write = os.pipe()\n"
        "finder = steps.StepFinder(pipe, rule, source='auto', phase=None, facts=dict,\n"
        "    usage=dict, orders=events.OrderPipe(read))\n"
        "best = 1.0\n"
        "for _ in range(20):\n"
        "    start = time.perf_counter()\n"
        "    for _ in range(20_000): finder.tick('keras', 'fit', 1, 64)\n"
        "    best = min(best, (time.perf_counter() - start) / 20_000)\n"
        "print(best)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(CHILD_MAIN.parent)],
        check=True,
        capture_output=True,
        text=True,
    )
    tick_us = 1e6 * float(done.stdout)
    print(f"a tick: {tick_us:.1f} us, {tick_us / 10:.2f} % of a step of 1 ms")


def bench_agreement(folder: Path) -> None:
    """Print our throughput over the script's own count, and that count with and without hooks."""
    script = folder / "counts_itself.py"
    script.write_text(COUNTS_ITSELF)
    runner = ProcessRunner(dict(os.environ))
    request = TrialRequest(
        script=script,
        python=Path(sys.executable),
        working_directory=folder,
        timing=Timing(measure_s=600.0),  # so that the script comes to its own end
    )
    bare = [sys.executable, str(script)]
    same, reported, hooks = [], [], []
    for number in range(AGREEMENT_PAIRS):
        rates = {}
        for side in ("with", "without")[:: 1 if number % 2 else -1]:  # each is first half the time
            if side == "without":
                done = subprocess.run(bare, check=True, capture_output=True, text=True)
                rates[side] = _own_rate(_own_ends(done.stdout)[COLD_EPOCHS:])
                continue
            outcome = runner.run(request, folder / f"trial{number}")
            ends = _own_ends(outcome.log.read_text())
            rates[side] = _own_rate(ends[COLD_EPOCHS:])
            measured = [w for w in outcome.windows if not w.warmup]
            began = _measuring_began(outcome.folder)
            own = _own_rate([end for end in ends if end >= began])
            total = sum(w.samples or 0 for w in measured) / sum(w.duration_s for w in measured)
            same.append(math.log(total / own))
            throughput = summarize(outcome, count_samples=True)
            assert throughput is not None
            reported.append(math.log(throughput.value / own))
        hooks.append(math.log(rates["with"] / rates["without"]))
    for name, logs in (
        ("all that was counted / the script's own count, same process and epochs", same),
        ("throughput as reported (median of windows) / the script's own count (mean)", reported),
        ("the script's own count with our hooks / without, interleaved pairs", hooks),
    ):
        print_ratio(name, logs)


def print_ratio(name: str, logs: Sequence[float]) -> None:
    """Print the mean of ratios, given by their logarithms, with its interval by Student's t."""
    half = float(stdtrit(len(logs) - 1, 0.975)) * stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(mean(logs) - half), math.exp(mean(logs) + half)
    print(
        f"{name}: {math.exp(mean(logs)):.3f} (95 % interval {low:.3f} to {high:.3f}, "
        f"{len(logs)} pairs)"
    )


def bench_exec(folder: Path) -> None:
    """Print what ``autotune exec`` costs a script at its start and in its steps."""
    script = folder / "counts_itself.py"
    script.write_text(COUNTS_ITSELF)
    best = folder / "best.json"
    cpus = len(os.sched_getaffinity(0))
    # TensorFlow's own values, and code that is applied without an effect on this script
    settings = {"intra_op": cpus, "inter_op": cpus, "onednn": "1", "map_parallelism": "4"}
    best.write_text(json.dumps({"configuration": settings}))
    launch = [*AUTOTUNE, "exec", str(best), "--"]
    nothing, whole = [sys.executable, "-c", "pass"], [sys.executable, str(script)]
    extra = median(seconds([*launch, *nothing]) - seconds(nothing) for _ in range(PAIRS))
    print(f"autotune exec: {1000 * extra:.0f} ms more at the start here ({PAIRS} pairs)")
    ratios = []
    for number in range(AGREEMENT_PAIRS):
        rates = {}
        for side in ([*launch, *whole], whole)[:: 1 if number % 2 else -1]:
            done = subprocess.run(side, check=True, capture_output=True, text=True)
            rates[len(side)] = _own_rate(_own_ends(done.stdout)[COLD_EPOCHS:])
        ratios.append(math.log(rates[len(launch) + len(whole)] / rates[len(whole)]))
    print_ratio("the script's own count under autotune exec / without, interleaved pairs", ratios)


def _measuring_began(folder: Path) -> float:
    """Return when the measurement began, by the clock that the script uses too."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    stages = [e for e in events if e["event"] == "stage" and e["stage"] == "measure"]
    return float(stages[0]["t"])


def main() -> None:
    """Run all of it."""
    print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    bench_start_up()
    with tempfile.TemporaryDirectory() as name:
        bench_parent(Path(name))
        bench_trial_time(Path(name))
    bench_tick()
    with tempfile.TemporaryDirectory() as name:
        bench_agreement(Path(name))
    with tempfile.TemporaryDirectory() as name:
        bench_exec(Path(name))


if __name__ == "__main__":
    main()
