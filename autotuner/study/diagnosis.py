"""The bottleneck of a step: its input, its computation, or its overhead.

Two more processes of the defaults run against the reference. One is fed the same batch over and
over, so its steps do not wait for input. The other is fed one sample of that batch, so its steps
take only the time that does not depend on the batch size. The ratios of steps per second split a
step's time into the three parts.
"""

import dataclasses
import enum

from autotuner.knobs.liveness import Evidence
from autotuner.statistics.comparison import Comparison


class Bottleneck(enum.StrEnum):
    """The largest part of a step's time."""

    INPUT = "input"
    COMPUTE = "compute"
    OVERHEAD = "overhead"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The parts of a step's time, as fractions of 1; None where a part is not known.

    ``waits``: the time that a step waits for input. ``overhead``: the time that does not depend on
    the batch size; ``compute``: the time that grows with it.
    """

    bottleneck: Bottleneck
    waits: float | None
    overhead: float | None
    compute: float | None
    sentence: str


def diagnose(cached: Comparison | None, single: Comparison | None, evidence: Evidence) -> Diagnosis:
    """Return the bottleneck: the largest part of a step's time.

    Args:
        cached: steps per second with the same batch in every step, over those with the real input.
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
        rest = f"{overhead:.0%} does not depend on the batch size, {compute:.0%} grows with it"
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
    """Return a stage of the pipeline that runs its calls one after the other, if there is one."""
    for site in evidence.at("map", "interleave"):
        # TensorFlow makes a stateless map parallel by itself
        by_itself = site.op == "map" and not site.stateful
        if site.parallel is None and not by_itself:
            where = site.where.rsplit("/", 1)[-1]
            return f"{site.op} at {where} is sequential"
    return None
