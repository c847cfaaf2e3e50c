"""``make bench-calibration``: how often is a verdict wrong? A thousand whole runs of each scenario.

Prints the table of docs/trust.md; the scenarios are in autotuner/testing/calibration.py.

    python -m benchmarks.calibration [--runs 1000] [--only NAME]
    python -m benchmarks.calibration --levels     # the levels in statistics/sequential.py
"""

import argparse
from collections.abc import Sequence

from autotuner.statistics.sequential import CONFIDENCE
from autotuner.testing.calibration import SCENARIOS, look_levels, simulate, summary


def print_table(names: Sequence[str], runs: int) -> None:
    """Print the table of docs/trust.md."""
    print(
        f"{runs} whole runs each; intervals are to cover in {CONFIDENCE:.0%}\n\n"
        "| scenario | FASTER | NO DIFFERENCE | INCONCLUSIVE | SLOWER | covered | mean error "
        "| mean error of FASTER | pairs |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name in names:
        s = summary(simulate(name, runs))
        print(
            f"| {name} | {s['faster']:.1%} | {s['no_difference']:.1%} | {s['inconclusive']:.1%} "
            f"| {s['slower']:.1%} | {s['covered']:.1%} | {s['error']:+.2%} "
            f"| {s['error_when_faster']:+.2%} | {s['pairs']:.1f} |",
            flush=True,
        )


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", choices=list(SCENARIOS), action="append")
    parser.add_argument("--levels", action="store_true")
    arguments = parser.parse_args()
    if arguments.levels:
        for most, level in look_levels((4, 6, 8, 10, 12, 16, 20, 24, 30, 40), 400_000).items():
            print(f"    {most}: {level:.5f},")
        return
    print_table(arguments.only or list(SCENARIOS), arguments.runs)


if __name__ == "__main__":
    main()
