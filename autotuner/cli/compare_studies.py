"""``autotune compare-studies``: what two studies have come to, side by side."""

from autotuner.cli.browse import open_contents
from autotuner.cli.terminal import out_console
from autotuner.report.tables import side_by_side


def compare_studies(first: str, second: str, *, storage_url: str | None) -> None:
    """Print both studies' facts, with a mark where they differ."""
    contents = [open_contents(name, storage_url) for name in (first, second)]
    console = out_console()
    console.print(side_by_side(*contents))
    console.print(
        "\n* differs. Two studies' speed-ups are over the defaults of their own runs; to hold two "
        "configurations against each other: autotune compare A/best.json B/best.json --model ...",
        markup=False,
    )
