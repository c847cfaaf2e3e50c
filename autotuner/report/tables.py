"""Tables of all studies for the terminal: their results, and what can be removed."""

from collections.abc import Sequence

from rich.table import Table

from autotuner.report.lists import cell, plain_table
from autotuner.study.cleaning import Removable
from autotuner.study.folders import from_here


def studies_table(rows: Sequence[tuple[str, int, str, str]]) -> Table:
    """Return studies as (name, trials, model, result)."""
    table = plain_table("study", "trials", "model", "result", right=("trials",))
    for name, trials, model, result in rows:
        table.add_row(cell(name), str(trials), cell(model), cell(result))
    return table


def removable_table(found: Sequence[Removable]) -> Table:
    """Return what can be removed, with its size and its last use."""
    right = ("trials", "size")
    table = plain_table("study", *right, "last used", "folder", right=right)
    for one in found:
        state = ", running: stays" if one.running else ", gone" if one.gone else ""
        table.add_row(
            cell(one.study + state),
            str(one.trials),
            f"{one.size_bytes / 2**20:.1f} MiB",
            "-" if one.used is None else f"{one.used:%Y-%m-%d %H:%M}",
            cell("-" if one.folder is None else from_here(one.folder)),
        )
    return table
