"""The output of ``autotune check``: each setting, the value read back, and the totals."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from autotuner.exec.check import Effect, ReadBack
from autotuner.knobs.knob import Knob
from autotuner.report.lists import cell, plain_table


def effects_table(effects: Sequence[ReadBack], knobs: Mapping[str, Knob]) -> Table:
    """Return a table of knobs with the values set and read back, and how they were read."""
    table = plain_table("knob", "set to", "", "read back", "how")
    for one in effects:
        table.add_row(
            cell(knobs[one.knob].name),
            cell(one.wanted),
            one.effect.value,
            cell("-" if one.found is None else one.found),
            cell(one.how),
        )
    return table


def summary(effects: Sequence[ReadBack]) -> str:
    """Return the totals in one line, such as ``set 4, took effect 4``."""
    counts = {effect: sum(one.effect is effect for one in effects) for effect in Effect}
    text = f"set {len(effects)}, took effect {counts[Effect.TAKEN]}"
    if counts[Effect.NONE]:
        names = ", ".join(one.knob for one in effects if one.effect is Effect.NONE)
        text += f", without effect {counts[Effect.NONE]} ({names})"
    if counts[Effect.UNSEEN]:
        names = ", ".join(one.knob for one in effects if one.effect is Effect.UNSEEN)
        text += f", can't be read back {counts[Effect.UNSEEN]} ({names})"
    return text
