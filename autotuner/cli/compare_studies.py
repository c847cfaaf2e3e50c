"""``autotune compare-studies``: the results of two studies, side by side."""

from autotuner.cli.browse import open_result
from autotuner.cli.terminal import out_console
from autotuner.report.side_by_side import side_by_side
from autotuner.report.terminal import EVERYTHING, print_sections


def compare_studies(first: str, second: str, *, storage_url: str | None) -> None:
    """Print the facts of both studies, with a mark where they differ."""
    results = [open_result(name, storage_url) for name in (first, second)]
    print_sections(out_console(), [side_by_side(*results)], EVERYTHING)
