"""``make bench``: what the tool itself costs.

1. Start-up: ``autotune --help`` against ``python -c pass``, interleaved in one run.
2. The parent while a trial is being measured: CPU time per wall time (goal: below 1 % of a core)
   and resident memory (goal: below 200 MB).
3. Where a trial's wall time goes.

Ratios with their range over the pairs; absolute times on a shared machine mean little.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

PAIRS = 15
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
    line = ["run", "--workload", "mlp_train", "--trials", "3", "--measure-time", "10s", "--json"]
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
    for file in sorted(folder.glob(".autotune/mlp_train/trials/*/events.jsonl")):
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


def main() -> None:
    """Run all of it."""
    print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    bench_start_up()
    with tempfile.TemporaryDirectory() as name:
        bench_parent(Path(name))
        bench_trial_time(Path(name))


if __name__ == "__main__":
    main()
