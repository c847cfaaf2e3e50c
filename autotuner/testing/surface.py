"""A recorded surface: the measured speed of a workload under every configuration of a grid.

A file holds JSON lines. The first is a :class:`Provenance`, each other one a :class:`Duel` between
a fresh process and a resident one of the defaults, as benchmarks/record.py measured it: raw counts
per second of every turn, without smoothing or omissions.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from autotuner.knobs.knob import Configuration, KnobValue
from autotuner.knobs.selection import effective
from autotuner.study.record import configuration_key
from autotuner.trial.outcome import Status

SCHEMA = 1
FOLDER = Path(__file__).resolve().parent / "surfaces"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """The subject, place and method of a recording.

    ``axes``: values by knob, whose product is the grid. ``default`` and ``recipe``: on this
    machine, in full. ``unit``: what is counted per second. ``step_s``: median length of a step
    of the defaults; ``slice_s``: length of a turn. ``diagnosis``: the bottleneck of a step
    (study/diagnosis.py); ``diagnosis_s``: the time that it took. ``saved_s``: the time that a trial
    saves if a warm parent forks it. ``seed``: of the order.
    """

    name: str
    workload: str
    axes: Mapping[str, Sequence[KnobValue]]
    default: Configuration
    recipe: Configuration
    machine: Mapping[str, Any]
    build: Mapping[str, Any]
    source: str
    phase: str
    unit: str
    step_s: float
    slice_s: float
    measure_s: float
    diagnosis: Mapping[str, Any]
    diagnosis_s: float
    saved_s: float
    seed: int
    begun: str
    commit: str
    schema: int = SCHEMA

    def grid(self) -> list[Configuration]:
        """Return every distinct configuration of the grid."""
        found: dict[str, Configuration] = {}
        for values in product(*self.axes.values()):
            point = effective(dict(zip(self.axes, values, strict=True)), self.default)
            found.setdefault(configuration_key(point), point)
        return list(found.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Duel:
    """A recorded process, in a duel with a resident one of the defaults.

    ``configuration``: an empty one is a control, the defaults themselves. ``resident``: its number.
    ``at_s``: recorded seconds since the recording began, without interruptions. ``ready_s``: the
    time of the process besides its duel, of which ``warmup_s`` is the warm-up. ``reference`` and
    ``candidate``: counts per second of each turn. ``others``: CPUs that other processes used
    meanwhile.
    """

    configuration: Configuration
    resident: int
    at_s: float
    status: Status
    reason: str = ""
    ready_s: float
    warmup_s: float = 0.0
    reference: tuple[float, ...] = ()
    candidate: tuple[float, ...] = ()
    others: float | None = None

    @property
    def key(self) -> str:
        """A text that is equal for equal configurations."""
        return configuration_key(self.configuration)


def as_line(one: Provenance | Duel) -> str:
    """Return one line of a file."""
    return json.dumps(dataclasses.asdict(one), separators=(",", ":")) + "\n"


def read_provenance(path: Path) -> Provenance:
    """Return the first line of a file."""
    with path.open(encoding="utf-8") as lines:
        return Provenance(**json.loads(next(lines)))


def read_duels(path: Path) -> Iterator[Duel]:
    """Yield the recorded duels; an incomplete last line is left out."""
    with path.open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            if not line.endswith("\n"):
                return
            stored = json.loads(line)
            yield Duel(
                **{
                    **stored,
                    "status": Status(stored["status"]),
                    "reference": tuple(stored["reference"]),
                    "candidate": tuple(stored["candidate"]),
                }
            )
