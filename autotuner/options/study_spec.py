"""The study specification: all options of a study, each declared once.

First stage of the flow. An option is a field of :class:`StudySpec` or :class:`Timing` with an
:class:`~autotuner.options.option.Option` beside it. From these declarations come the flags of the
commands, the keys of ``study.toml``, the keys of a request to the service, and the command line
that repeats a study (see ``table.py``).
"""

import dataclasses
import enum
from pathlib import Path
from typing import Annotated

from autotuner.options import kinds
from autotuner.options.effort import PLANS, Plan, effort_for
from autotuner.options.effort import Effort as Effort
from autotuner.options.option import EVERYWHERE, Group, Option, Place


class StepSource(enum.StrEnum):
    """Where a script's steps are counted; AUTO takes the first that the script offers."""

    AUTO = "auto"
    STEP = "step"
    KERAS = "keras"
    DATASET = "dataset"
    FUNCTION = "function"
    PROCESS = "process"


class SamplerName(enum.StrEnum):
    """What proposes configurations: our model of the knobs, or one of Optuna's samplers."""

    GP = "gp"
    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"


class Objective(enum.StrEnum):
    """What is optimised: samples per second, step times, or samples per CPU second."""

    THROUGHPUT = "throughput"
    LATENCY_P50 = "latency-p50"
    LATENCY_P99 = "latency-p99"
    CPU_EFFICIENCY = "cpu-efficiency"


class Pairing(enum.StrEnum):
    """How a trial is compared with the defaults: in turns of seconds, or one after the other."""

    AUTO = "auto"
    SEQUENTIAL = "sequential"


class Warm(enum.StrEnum):
    """Whether trials of the search are forked from a process that has imported TensorFlow.

    AUTO: if that saves time and a check on the script shows no difference.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"


DEFAULT_MARGIN = 0.03


_NOT_IN_A_REQUEST = EVERYWHERE - {Place.BODY}


def _expert(text: str) -> Option:
    """Declare a rarely used time: its flag exists so that a command can repeat any study."""
    return Option(group=Group.TRIALS, kind=kinds.DURATION, help=text, hidden=True)


def _timeout(text: str) -> Option:
    return Option(group=Group.TRIALS, kind=kinds.DURATION, help=text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a trial may take, in seconds.

    ``warmup_max_s`` ends a warm-up that does not become steady. The three ``*_timeout_s`` are
    deadlines: a trial that makes no progress until then is killed.
    """

    window_s: Annotated[float, _expert("Length of a window of measurement.")] = 0.1
    warmup_min_s: Annotated[float, _expert("Shortest warm-up.")] = 0.6
    warmup_max_s: Annotated[float, _expert("Longest warm-up of an unsteady script.")] = 20.0
    measure_s: float = 2.0
    start_timeout_s: Annotated[float, _timeout("Time until the first step ends.")] = 300.0
    warmup_timeout_s: Annotated[float, _timeout("Time until the speed is steady.")] = 120.0
    measure_timeout_s: Annotated[float, _timeout("Time until the measurement ends.")] = 120.0
    grace_s: Annotated[float, _expert("Time between the request to stop and the kill.")] = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One study: the script, how it is run and measured, and how the search is bounded.

    The effort decides the fields that are None. ``trials`` counts the trials of the search over all
    runs of the study, defaults and recipe included. ``budget_s`` is the wall time of this run, the
    time before an interruption included. ``batch_size`` and ``shapes`` are for a saved model.
    """

    model: Annotated[
        Path,
        Option(
            group=Group.SCRIPT,
            kind=kinds.PATH,
            help="Python script, its arguments after --; or a .keras file or a SavedModel.",
            places=_NOT_IN_A_REQUEST,
        ),
    ]
    arguments: Annotated[
        tuple[str, ...],
        Option(
            group=Group.SCRIPT,
            kind=kinds.TEXTS,
            help="Arguments of the script.",
            places=EVERYWHERE - {Place.FLAG},
        ),
    ] = ()
    python: Annotated[
        Path | None,
        Option(
            group=Group.SCRIPT,
            kind=kinds.PATH,
            help="Interpreter that runs your script.",
            default="this one",
            places=_NOT_IN_A_REQUEST,
        ),
    ] = None
    name: Annotated[
        str | None,
        Option(
            group=Group.SEARCH,
            kind=kinds.STUDY_NAME,
            help="Name of the study. An existing study is resumed.",
            default="the script's",
            key="study",
            file_key="name",
        ),
    ] = None
    description: Annotated[
        str,
        Option(
            group=Group.SCRIPT,
            kind=kinds.TEXT,
            help="What the study is about.",
            places=frozenset({Place.FILE}),
        ),
    ] = ""
    knobs: Annotated[
        tuple[str, ...],
        Option(
            group=Group.SEARCH,
            kind=kinds.NAMES,
            help="Knobs, groups or tiers (safe, extended, all) to search, separated by commas; "
            "`autotune knobs` lists them.",
            default="safe",
        ),
    ] = ()
    environment: Annotated[
        tuple[tuple[str, str], ...],
        Option(
            group=Group.SCRIPT,
            kind=kinds.VARIABLES,
            help="Environment variable for the script; may be repeated.",
            places=_NOT_IN_A_REQUEST,
            flag="--env",
        ),
    ] = ()
    measure: Annotated[
        StepSource,
        Option(
            group=Group.MEASUREMENT,
            kind=kinds.one_of(StepSource, "SOURCE"),
            help="What a step is: {choices}.",
        ),
    ] = StepSource.AUTO
    phase: Annotated[
        str | None,
        Option(
            group=Group.MEASUREMENT,
            kind=kinds.NAME,
            help="Phase to measure: fit, evaluate or predict.",
            default="the first that lasts",
        ),
    ] = None
    effort: Annotated[
        Effort | None,
        Option(
            group=Group.BUDGET,
            kind=kinds.one_of(Effort, "EFFORT"),
            help="{choices}: about 3, 10 and 30 minutes.",
            default="balanced",
        ),
    ] = None
    trials: Annotated[
        int | None,
        Option(
            group=Group.BUDGET,
            kind=kinds.whole(least=1, hint="at least 1: TensorFlow's defaults"),
            help="Trials before the final: the defaults, the usual candidates, the search.",
            default="by effort",
        ),
    ] = None
    budget_s: Annotated[
        float | None,
        Option(
            group=Group.BUDGET,
            kind=kinds.DURATION,
            help="Time to aim at for the whole study, such as 10m.",
        ),
    ] = None
    sampler: Annotated[
        SamplerName,
        Option(
            group=Group.SEARCH,
            kind=kinds.one_of(SamplerName, "SAMPLER"),
            help="Method of the search: {choices}.",
        ),
    ] = SamplerName.GP
    seed: Annotated[
        int, Option(group=Group.SEARCH, kind=kinds.whole(), help="Seed of the sampler.")
    ] = 0
    pairs: Annotated[
        int | None,
        Option(
            group=Group.VERDICT,
            kind=kinds.whole(least=0, problem="is negative", hint="0: no final"),
            help="Maximum number of pairs of the final; 0 for no final.",
            default="by effort",
        ),
    ] = None
    objective: Annotated[
        Objective,
        Option(
            group=Group.SEARCH,
            kind=kinds.one_of(Objective, "OBJECTIVE"),
            help="What to optimise: {choices}.",
        ),
    ] = Objective.THROUGHPUT
    pairing: Annotated[
        Pairing,
        Option(
            group=Group.MEASUREMENT,
            kind=kinds.switch_to(Pairing.SEQUENTIAL),
            help="Never pause and continue the script (no duels).",
            flag="--sequential",
        ),
    ] = Pairing.AUTO
    warm: Annotated[
        Warm,
        Option(
            group=Group.TRIALS,
            kind=kinds.one_of(Warm, "WHEN"),
            help="Fork trials of the search from a process that has imported TensorFlow: "
            "{choices}.",
            default="auto, if a check shows no difference; off with --run-as",
        ),
    ] = Warm.AUTO
    max_memory_bytes: Annotated[
        int | None,
        Option(
            group=Group.SEARCH,
            kind=kinds.MEMORY,
            help="Exclude configurations that need more memory, such as 4G.",
        ),
    ] = None
    max_latency_p99_s: Annotated[
        float | None,
        Option(
            group=Group.SEARCH,
            kind=kinds.DURATION,
            help="Exclude configurations whose p99 of step times is longer, such as 50ms.",
        ),
    ] = None
    margin: Annotated[
        float,
        Option(
            group=Group.VERDICT,
            kind=kinds.FRACTION,
            help="Speed-ups below it count as no difference; 0.03 is 3 %.",
        ),
    ] = DEFAULT_MARGIN
    strict_numerics: Annotated[
        bool,
        Option(
            group=Group.VERDICT,
            kind=kinds.SWITCH,
            help="Refuse a configuration that changes results beyond rounding.",
        ),
    ] = False
    measure_s: Annotated[
        float | None,
        Option(
            group=Group.MEASUREMENT,
            kind=kinds.DURATION,
            help="Longest measurement of a trial.",
            default="by effort",
            key="measure_time",
            file_key="timing.measure",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        Option(
            group=Group.SCRIPT,
            kind=kinds.batch_size(),
            help="Batch size for a saved model.",
            default="32",
        ),
    ] = None
    shapes: Annotated[
        tuple[str, ...],
        Option(
            group=Group.SCRIPT,
            kind=kinds.SHAPES,
            help="Shape of an input of a saved model, as NAME=32,224,224,3; may be repeated.",
            flag="--shape",
        ),
    ] = ()
    timing: Timing = Timing()

    @property
    def plan(self) -> Plan:
        """How much to measure; without a given effort, that of the effort that suits the budget."""
        effort = self.effort or effort_for(self.budget_s)
        plan = PLANS[effort]
        if self.pairs is not None:
            plan = dataclasses.replace(plan, most_pairs=self.pairs)
        if self.measure_s is None:
            return plan
        final_s = self.measure_s * plan.final_measure_s / plan.measure_s
        return dataclasses.replace(plan, measure_s=self.measure_s, final_measure_s=final_s)


def is_saved_model(path: Path) -> bool:
    """Return whether a path is a saved model, to be tuned for inference, and not a script."""
    return path.suffix in (".keras", ".h5") or (path / "saved_model.pb").is_file()
