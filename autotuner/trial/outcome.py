"""How a trial ended: a value, never an exception."""

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path

from autotuner.knobs.knob import Build
from autotuner.knobs.liveness import Evidence


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
    """What a trial is doing; each phase but the last has its own deadline."""

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

    ``start_s``: time since the duel began. ``duration_s``: running time that counts; ``steps`` and
    ``samples``: what was done in it, fractions of steps included. ``step_s``: lengths of whole
    steps (means of a few where steps are very short). ``cpu_s``: CPU time of the whole turn;
    ``turn_s``: length of the whole turn.
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
    "map_randomness", "cache", or a kind from statistics/shape.py. ``where``: file and line.
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
"""The parts of a trial's wall time, in order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a measurement took besides time. None: not known on this system.

    ``cores_used``: CPU seconds per second of the script and its workers. ``others_cores``: the same
    of everything else on the machine, which should be near 0. ``first_step_s``: from the child's
    start to the end of its first step; ``warmup_s``: from there to the start of the measurement.
    ``stages``: the trial's wall time in seconds, by the names in :data:`STAGES`.
    """

    cores_used: float | None = None
    others_cores: float | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    first_step_s: float | None = None
    warmup_s: float | None = None
    stages: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScriptFacts:
    """What the child reported about its process (child/facts.py); defaults where it did not.

    ``python``, ``tensorflow``, ``keras``: versions. ``package``: the distribution that TensorFlow
    was installed from. ``onednn``: whether oneDNN is on. ``openmp``: the file name of a mapped
    OpenMP runtime. ``forked``: a warm parent forked the process. ``imported``: modules that a warm
    parent would import. ``thread_pools``: counts of threads by name. ``peak_rss_bytes``: 0 if not
    known. ``inspection``: what the script offers to the knobs, where the request asked for it.
    """

    python: str = ""
    tensorflow: str = ""
    package: str = ""
    onednn: bool | None = None
    keras: str = ""
    openmp: str | None = None
    forked: bool = False
    imported: tuple[str, ...] = ()
    thread_pools: Mapping[str, int] = dataclasses.field(default_factory=dict)
    peak_rss_bytes: int = 0
    cpu_s: float | None = None
    inspection: Evidence | None = None

    @property
    def build(self) -> Build:
        """The TensorFlow that the process imported."""
        return Build(
            tensorflow=self.tensorflow,
            keras=self.keras,
            python=self.python,
            onednn_default=bool(self.onednn),
            openmp=self.openmp,
            package=self.package,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended.

    ``reason``: one sentence, for every status but MEASURED. ``phase``: the phase it ended in.
    ``windows``: windows of the meter that counts, warm-up included; after a duel each measured
    window stands for one turn, because the child's own windows contain stops.
    ``step_s``: lengths of the measured steps. ``ticks``: steps seen in all.
    ``rounds``: the rounds of a duel; ``closing``: the reference's turn after the last round.
    ``reference_ended``: the duel was cut short because the reference's script ended.
    ``values``: what the first executions computed, if the request asked for it.
    ``source`` and ``step_phase``: what a step was.
    ``complete``: the measurement lasted as long as requested. ``warm``: the warm-up ended before
    the script did.
    ``cold_reason``: why the process was started although the request asked for a fork; "" if the
    process began as requested.
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
    values: tuple[tuple[float, ...], ...] = ()
    source: str | None = None
    step_phase: str | None = None
    complete: bool = False
    warm: bool = False
    cost: Cost = Cost()
    notices: tuple[Notice, ...] = ()
    facts: ScriptFacts = ScriptFacts()
    elapsed_s: float = 0.0
    cold_reason: str = ""

    @property
    def log(self) -> Path:
        """The script's standard output and standard error."""
        return self.folder / "output.log"

    @property
    def repro(self) -> Path:
        """A shell script that repeats the trial by hand."""
        return self.folder / "repro.sh"
