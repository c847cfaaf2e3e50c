"""Whole runs by the tool of another source tree and by this one's: time to verdict, and result.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.before_after /tmp/before [--pairs 1] [--workload NAME] [-- OPTIONS OF RUN]

Runs take turns. What they recommend is then measured again: several fresh processes each, in duels
with resident defaults, in a random order.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.remeasured import TREE, Run, compared, measure_again, run_tool, written_out

WORKLOADS = ("mlp_train", "cnn_train", "image_input")


def main() -> None:
    """Run all of it."""
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--workload", choices=WORKLOADS, action="append")
    given = parser.parse_args(sys.argv[1:at])
    options = sys.argv[at + 1 :]
    rows = []
    for workload in given.workload or WORKLOADS:
        runs: dict[Path, list[Run]] = {given.before.absolute(): [], TREE: []}
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            for number in range(given.pairs):
                for tree in list(runs)[:: -1 if number % 2 else 1]:
                    print(f"{workload}: {tree}", flush=True)
                    asked = [*options, "--seed", f"{number}"]
                    home = folder / f"{len(runs[tree])}-{list(runs).index(tree)}"
                    runs[tree].append(run_tool(workload, asked, home, tree))
            before, after = runs.values()
            found = [run.configuration for run in (*before, *after)]
            everything = written_out(found, workload, folder)
            logs = measure_again(everything, workload, given.processes, folder)
        pairs = zip(everything[: given.pairs], everything[given.pairs :], strict=True)
        for (old, new), one, other in zip(pairs, before, after, strict=True):
            gains = " | ".join(compared(logs, new, old))
            times = " | ".join(
                f"{run.took_s:.0f} s ({run.besides_final_s:.0f} s and {run.pairs} pairs)"
                for run in (one, other)
            )
            rows.append(f"| {workload} | {times} | {gains} |")
            print(rows[-1], flush=True)
    print(
        "\n| workload | before: time to verdict (besides the final, its pairs) | after "
        "| after: gain | before: gain | after over before |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
    )


if __name__ == "__main__":
    main()
