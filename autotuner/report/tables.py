"""Tables of all studies for the terminal: their results, and what can be removed."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from autotuner.report.lists import plain_table
from autotuner.study.cleaning import Removable


def studies_table(rows: Sequence[tuple[str, int, str, str]]) -> Table:
    """Return studies as (name, trials, model, result)."""
    table = plain_table("study", "trials", "model", "result", right=("trials",))
    for name, trials, model, result in rows:
        table.add_row(Text(name), str(trials), Text(model), Text(result))
    return table


def removable_table(found: Sequence[Removable]) -> Table:
    """Return what can be removed, with its size and its last use."""
    right = ("trials", "size")
    table = plain_table("study", *right, "last used", "folder", right=right)
    for one in found:
        name = one.study or "(gone)"
        table.add_row(
            Text(f"{name}, running: stays" if one.running else name),
            str(one.trials),
            f"{one.size_bytes / 2**20:.1f} MiB",
            "-" if one.used is None else f"{one.used:%Y-%m-%d %H:%M}",
            Text("-" if one.folder is None else str(one.folder)),
        )
    return table
