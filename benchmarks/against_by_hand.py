"""``make bench-against-by-hand``: autotune against the usual script, at equal wall time.

benchmarks/by_hand/tune.py is Optuna with a fresh process for each trial and five seconds each, and
recommends the fastest trial. Both tune the same five knobs of image_input for the same time, in
turns. What they recommend is then measured again: several fresh processes each, in duels with
resident defaults, in a random order.

    python -m benchmarks.against_by_hand [--repetitions 5] [--minutes 4] [--processes 8]
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from autotuner.knobs.knob import Configuration
from benchmarks.remeasured import compared, measure_again, run_tool, written_out

WORKLOAD = "image_input"
KNOBS = "intra_op,inter_op,onednn,map_parallelism,prefetch_depth"
_BY_HAND = Path(__file__).resolve().parent / "by_hand"


def tune_by_hand(minutes: float, folder: Path) -> Configuration:
    """Return what the usual script recommends, in the tool's words."""
    shutil.copytree(_BY_HAND, folder)
    done = subprocess.run(
        [sys.executable, "tune.py", f"{60 * minutes}"],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    print(f"  by hand: {done.stderr.count('finished with value')} trials", flush=True)
    best = ast.literal_eval(done.stdout.splitlines()[-1])
    calls, depth = best.pop("map_calls"), best.pop("prefetch")
    return {
        **best,
        "map_parallelism": {"-1": "AUTOTUNE", "0": "as_written"}.get(calls, calls),
        "prefetch_depth": "AUTOTUNE" if depth == "-1" else depth,
    }


def tune(minutes: float, folder: Path, seed: int) -> Configuration:
    """Return what autotune recommends."""
    options = ["--knobs", KNOBS, "--budget", f"{round(60 * minutes)}s", "--seed", f"{seed}"]
    return run_tool(WORKLOAD, options, folder)


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--processes", type=int, default=8)
    given = parser.parse_args()
    ours: list[Configuration] = []
    theirs: list[Configuration] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for number in range(given.repetitions):
            print(f"repetition {number + 1}", flush=True)
            for by_hand in (False, True) if number % 2 else (True, False):
                if by_hand:
                    found = tune_by_hand(given.minutes, folder / f"by-hand-{number}")
                else:
                    found = tune(given.minutes, folder / f"tool-{number}", number)
                print(f"  {'by hand' if by_hand else 'autotune'}: {found}", flush=True)
                (theirs if by_hand else ours).append(found)
        everything = written_out([*ours, *theirs], WORKLOAD, folder)
        logs = measure_again(everything, WORKLOAD, given.processes, folder)
    print(
        f"\n{given.minutes:g} minutes each; over the defaults, {given.processes} processes each\n\n"
        "| repetition | autotune | by hand | autotune over by hand |\n|---|---|---|---|"
    )
    half = len(ours)
    for number, (one, other) in enumerate(zip(everything[:half], everything[half:], strict=True)):
        print(f"| {number + 1} | " + " | ".join(compared(logs, one, other)) + " |")


if __name__ == "__main__":
    main()
