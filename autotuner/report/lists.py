"""Tables that need no study, and so no Optuna: reference workloads and knobs."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from autotuner.knobs.knob import Knob
from autotuner.machine.host import Machine


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table without borders; the named columns are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def workloads_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return reference workloads as (name, description)."""
    table = plain_table("workload", "what it is")
    for name, description in rows:
        table.add_row(name, description)
    return table


def knobs_table(knobs: Iterable[Knob], machine: Machine) -> Table:
    """Return the catalogue with each knob's domain on a machine."""
    table = plain_table("knob", "group", "tier", "values here", "what it is", "variable")
    for knob in knobs:
        values = ", ".join(str(value) for value in knob.domain(machine).values()[:12])
        table.add_row(
            Text(knob.name),
            knob.group.value,
            knob.tier.value,
            Text(values),
            knob.summary,
            Text(knob.variable),
        )
    return table
