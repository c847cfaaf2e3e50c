"""Tables that need no study, and so no Optuna: reference workloads and knobs."""

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from autotuner.knobs.knob import Knob
from autotuner.machine.host import Machine
from autotuner.plain import plain

_MOST_VALUES = 12


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table without borders; the named columns are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def cell(text: object) -> Text:
    """Return a text from outside as a cell; rich takes nothing in it for markup."""
    return Text(plain(str(text)))


def workloads_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return reference workloads as (name, description)."""
    table = plain_table("workload", "what it is")
    table.columns[0].no_wrap = True
    for name, description in rows:
        table.add_row(name, description)
    return table


def _values(knob: Knob, machine: Machine) -> str:
    values = [str(value) for value in knob.domain(machine).values()]
    more = ", ..." if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more


def knobs_table(knobs: Iterable[Knob], machine: Machine) -> Table:
    """Return the catalogue, one line for each knob; what does not fit is cut off at the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("knob", "group", "tier"):
        table.add_column(column, no_wrap=True)
    table.add_column("values here")
    for knob in knobs:
        # the cell does not wrap, and the column may: rich shortens such a column before any other
        values = Text(_values(knob, machine), no_wrap=True, overflow="ellipsis")
        table.add_row(Text(knob.name), knob.group.value, knob.tier.value, values)
    return table


def knob_lines(knob: Knob, machine: Machine) -> Iterator[str]:
    """Yield the description of a knob."""
    yield f"{knob.name}: {knob.summary}"
    yield f"  group     {knob.group.value}"
    yield f"  tier      {knob.tier.value}"
    yield f"  values    {_values(knob, machine)}"
    yield f"  variable  {knob.variable}"
    yield f"  read at   {knob.read_at.value}"
    if knob.needs:
        other, *values = knob.needs
        yield f"  needs     {other} = {' or '.join(values)}"
