"""What holds a step up: its input, its computing, or what each step costs whatever it computes.

Two more processes of the defaults meet the resident: one that is fed the same batch over and over,
so that its steps do not wait for input, and one that is fed one sample of it, so that what is left
of its steps does not depend on the batch's size. Ratios of steps per second tell the rest.
"""

import dataclasses
import enum

from autotuner.knobs.liveness import Evidence
from autotuner.statistics.comparison import Comparison


class Bottleneck(enum.StrEnum):
    """What holds a step up."""

    INPUT = "input"
    COMPUTE = "compute"
    OVERHEAD = "overhead"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a step's time goes into, as parts of 1; None where that is not known.

    ``waits``: what goes away when the input is at hand. ``overhead``: what a step takes whatever
    the batch's size; ``compute``: what grows with it.
    """

    bottleneck: Bottleneck
    waits: float | None
    overhead: float | None
    compute: float | None
    sentence: str


def diagnose(cached: Comparison | None, single: Comparison | None, evidence: Evidence) -> Diagnosis:
    """Return the bottleneck: what the largest part of a step's time goes into.

    Args:
        cached: steps per second with the same batch again and again, over the real input.
        single: the same with one sample of that batch.
        evidence: where the script builds its pipeline.
    """
    if cached is None:
        reason = "the script draws from no dataset whose elements can be replaced"
        return Diagnosis(
            bottleneck=Bottleneck.UNKNOWN,
            waits=None,
            overhead=None,
            compute=None,
            sentence=f"not known: {reason}",
        )
    waits = max(0.0, 1 - 1 / cached.gain)
    if single is None:
        overhead, compute = None, None
        kind = Bottleneck.INPUT if waits >= 0.5 else Bottleneck.COMPUTE
        rest = f"{1 - waits:.0%} is the step itself"
    else:
        overhead = min(1 - waits, 1 / single.gain)
        compute = max(0.0, 1 - waits - overhead)
        parts = {
            Bottleneck.INPUT: waits,
            Bottleneck.OVERHEAD: overhead,
            Bottleneck.COMPUTE: compute,
        }
        kind = max(parts, key=lambda part: parts[part])
        rest = f"{overhead:.0%} is spent whatever the batch's size, {compute:.0%} grows with it"
    slow = _sequential_stage(evidence) if kind is Bottleneck.INPUT else None
    hint = {
        Bottleneck.INPUT: f"; {slow}" if slow else "",
        Bottleneck.OVERHEAD: "; larger batches or steps_per_execution help more than threads",
    }.get(kind, "")
    return Diagnosis(
        bottleneck=kind,
        waits=waits,
        overhead=overhead,
        compute=compute,
        sentence=f"{kind.value}-bound: {waits:.0%} of each step waits for its input, {rest}{hint}",
    )


def _sequential_stage(evidence: Evidence) -> str | None:
    """Return where the pipeline runs one call after the other, if it does."""
    for site in evidence.at("map", "interleave"):
        # TensorFlow makes a stateless map parallel by itself
        by_itself = site.op == "map" and not site.stateful
        if site.parallel is None and not by_itself:
            where = site.where.rsplit("/", 1)[-1]
            return f"{site.op} at {where} is sequential"
    return None
