"""How a trial ended: a value, never an exception."""

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Status(enum.StrEnum):
    """The ways a trial can end; only MEASURED carries a measurement."""

    MEASURED = "measured"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    NO_STEPS = "no steps"
    REJECTED = "rejected"
    OVER_LIMIT = "over the limit"


class Phase(enum.StrEnum):
    """What a trial is doing; each but the last has a deadline of its own."""

    START = "start"
    WARMUP = "warm-up"
    MEASURE = "measurement"
    EXIT = "exit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """Steps done in a stretch of time inside the child; seconds of the meter's running time."""

    warmup: bool
    start_s: float
    duration_s: float
    steps: float
    samples: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """What one side of a duel did while it was its turn.

    ``start_s``: since the duel began. ``duration_s``: running time that counts; ``steps`` and
    ``samples`` done in it, parts included. ``step_s``: lengths of whole steps (means of a few where
    they are very short). ``cpu_s``: CPU time of all of the turn, and ``turn_s`` how long that was.
    """

    start_s: float
    duration_s: float
    steps: float
    samples: float | None
    step_s: tuple[float, ...]
    cpu_s: float
    turn_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """A turn of the reference, then one of the candidate."""

    reference: Turn
    candidate: Turn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notice:
    """Something in the script that the user should know about.

    ``kind``: "override" (the script sets ``knob`` to ``value`` itself), "map_kept",
    "map_randomness", "cache", and what the course of the measurement tells. ``where``: file, line.
    """

    kind: str
    where: str
    text: str
    knob: str | None = None
    value: str | None = None


STAGES = {
    "start": "starting or forking the process",
    "import": "importing TensorFlow",
    "build": "the script up to the end of its first step: data, model, tracing",
    "warmup": "warm-up",
    "measure": "measuring, in duels both sides",
    "end": "leaving the script, ending the process",
}
"""What a trial's wall time goes into, in order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a measurement took besides time. None: not known on this system.

    ``cores_used``: CPU seconds of the script and its workers per second. ``others_cores``: the same
    of everything else on the machine, which should be near 0. ``first_step_s``: from the child's
    start to the end of its first step; ``warmup_s``: from there to where measuring began.
    ``stages``: what its wall time went into, in seconds, by the names in :data:`STAGES`.
    """

    cores_used: float | None = None
    others_cores: float | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    first_step_s: float | None = None
    warmup_s: float | None = None
    stages: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended.

    ``rounds``: of the duel, if it was one; ``closing``: the reference's turn after the last one.
    ``reference_ended``: it was cut short because the reference's script came to its end.
    ``step_s``: lengths of the measured steps. ``ticks``: steps seen in all. ``numerics``: what the
    first steps computed, where that was asked for.
    ``reason``: one sentence, for every status but MEASURED. ``phase``: where it ended. ``windows``:
    of the meter that counts, warm-up included. ``source`` and ``step_phase``: what a step was.
    ``complete``: the measurement lasted as long as was asked. ``warm``: the warm-up came to its end
    before the script did. ``facts``: see the child's facts.py.
    """

    status: Status
    folder: Path
    reason: str = ""
    phase: Phase = Phase.START
    exit_code: int | None = None
    signal: int | None = None
    error_kind: str | None = None
    last_lines: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    step_s: tuple[float, ...] = ()
    ticks: int = 0
    rounds: tuple[Round, ...] = ()
    closing: Turn | None = None
    reference_ended: bool = False
    numerics: tuple[tuple[float, ...], ...] = ()
    source: str | None = None
    step_phase: str | None = None
    complete: bool = False
    warm: bool = False
    cost: Cost = Cost()
    notices: tuple[Notice, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    elapsed_s: float = 0.0

    @property
    def log(self) -> Path:
        """The script's standard output and standard error."""
        return self.folder / "output.log"

    @property
    def repro(self) -> Path:
        """A shell script that repeats the trial by hand."""
        return self.folder / "repro.sh"
