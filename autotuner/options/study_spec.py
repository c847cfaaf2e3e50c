"""The study specification: everything the user can say about a study, checked once.

First stage of the flow. A specification comes from flags, from a ``study.toml`` whose keys have the
same names, or from both: a flag overrides the file. Names of knobs are checked one stage later,
where the catalogue is known.
"""

import dataclasses
import enum
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autotuner.errors import UserError, did_you_mean
from autotuner.options.duration import parse_duration
from autotuner.options.quantity import parse_bytes

_FAST_BUDGET_S, _BALANCED_BUDGET_S = 330.0, 1200.0
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class StepSource(enum.StrEnum):
    """Where a script's steps are counted; AUTO takes the first that the script offers."""

    AUTO = "auto"
    STEP = "step"
    KERAS = "keras"
    DATASET = "dataset"
    FUNCTION = "function"
    PROCESS = "process"


class SamplerName(enum.StrEnum):
    """Who proposes configurations: our model of the knobs, or one of Optuna's samplers."""

    GP = "gp"
    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"
    OPTUNA_GP = "optuna-gp"


class Objective(enum.StrEnum):
    """What is to be best: samples per second, step times, or samples per CPU second."""

    THROUGHPUT = "throughput"
    LATENCY_P50 = "latency-p50"
    LATENCY_P99 = "latency-p99"
    CPU_EFFICIENCY = "cpu-efficiency"


class Effort(enum.StrEnum):
    """How long to try: about 3, 10 and 30 minutes for a script that starts in 5 s."""

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"


class Pairing(enum.StrEnum):
    """How trials are held against the defaults: in turns within seconds, or one after the other."""

    AUTO = "auto"
    SEQUENTIAL = "sequential"


class Warm(enum.StrEnum):
    """Whether trials of the search are forked by a process that has imported TensorFlow already.

    AUTO: if that saves time and a check on the script shows no difference.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How an effort is spent.

    ``processes``: of the defaults in the noise check. ``trials``: of the search, the default and
    the recipe included. ``shortlist``: candidates in the race, ``race_rounds`` of which each is run
    once. ``most_pairs``: of the final, for ``likely_pairs`` of which a budget holds time back.
    ``measure_s`` and ``final_measure_s``: longest measurement
    of a trial, and of a process in the final. ``diagnoses``: find out first what holds a step up.
    """

    processes: int
    trials: int
    shortlist: int
    race_rounds: int
    likely_pairs: int
    most_pairs: int
    measure_s: float
    final_measure_s: float
    diagnoses: bool = True

    @property
    def race_trials(self) -> int:
        """Most trials of the race, the recipe left out."""
        return self.shortlist * self.race_rounds


PLANS = {
    Effort.FAST: Plan(
        processes=2,
        trials=8,
        shortlist=1,
        race_rounds=0,
        likely_pairs=4,
        most_pairs=8,
        measure_s=1.5,
        final_measure_s=2.5,
        diagnoses=False,
    ),
    Effort.BALANCED: Plan(
        processes=3,
        trials=25,
        shortlist=3,
        race_rounds=2,
        likely_pairs=6,
        most_pairs=16,
        measure_s=2.0,
        final_measure_s=4.0,
    ),
    Effort.THOROUGH: Plan(
        processes=5,
        trials=70,
        shortlist=4,
        race_rounds=4,
        likely_pairs=6,
        most_pairs=30,
        measure_s=3.0,
        final_measure_s=5.0,
    ),
}
DEFAULT_MARGIN = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a trial may take; all in seconds.

    ``warmup_max_s`` ends a warm-up that does not get steady. The three ``*_timeout_s`` are
    deadlines after which a trial that makes no progress is killed.
    """

    window_s: float = 0.1
    warmup_min_s: float = 0.6
    warmup_max_s: float = 20.0
    measure_s: float = 2.0
    start_timeout_s: float = 300.0
    warmup_timeout_s: float = 120.0
    measure_timeout_s: float = 120.0
    grace_s: float = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One study: the script, how it is run and measured, and how the search is bounded.

    ``trials`` counts all trials of the search in the study, the default and the recipe included,
    over all sittings; ``budget_s`` is wall time of this run, with what it had used where it was cut
    off. None: as the effort has it.
    ``pairs`` is the greatest number of final pairs, 0 for no final; None: the effort's.
    ``measure_s`` is the longest measurement of a trial; None: the effort's. A trial that needs more
    than ``max_memory_bytes``, or whose p99 of step times is above ``max_latency_p99_s``, is out.
    ``margin``: speed-ups below it (0.03 is 3 %) count as no difference. ``batch_size`` and
    ``shapes`` (NAME=D1,D2,...) are for a ``model`` that is no script but a saved model.
    """

    model: Path
    arguments: tuple[str, ...] = ()
    python: Path | None = None
    name: str | None = None
    description: str = ""
    knobs: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    measure: StepSource = StepSource.AUTO
    phase: str | None = None
    trials: int | None = None
    budget_s: float | None = None
    sampler: SamplerName = SamplerName.GP
    seed: int = 0
    effort: Effort | None = None
    pairs: int | None = None
    objective: Objective = Objective.THROUGHPUT
    pairing: Pairing = Pairing.AUTO
    warm: Warm = Warm.AUTO
    max_memory_bytes: int | None = None
    max_latency_p99_s: float | None = None
    margin: float = DEFAULT_MARGIN
    strict_numerics: bool = False
    measure_s: float | None = None
    batch_size: int | None = None
    shapes: tuple[str, ...] = ()
    timing: Timing = Timing()

    @property
    def plan(self) -> Plan:
        """How much is measured; without a stated effort the one that suits the budget."""
        effort = self.effort or effort_for(self.budget_s)
        plan = PLANS[effort]
        if self.pairs is not None:
            plan = dataclasses.replace(plan, most_pairs=self.pairs)
        if self.measure_s is None:
            return plan
        final_s = self.measure_s * plan.final_measure_s / plan.measure_s
        return dataclasses.replace(plan, measure_s=self.measure_s, final_measure_s=final_s)


def effort_for(budget_s: float | None) -> Effort:
    """Return the effort that suits a budget."""
    if budget_s is None:
        return Effort.BALANCED
    if budget_s <= _FAST_BUDGET_S:
        return Effort.FAST
    return Effort.BALANCED if budget_s <= _BALANCED_BUDGET_S else Effort.THOROUGH


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a text, got {value!r}", hint=f'write {where} = "..."')
    return value


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where}: expected a whole number, got {value!r}")
    return value


def _positive(value: object, where: str) -> int:
    number = _whole(value, where)
    if number < 1:
        raise UserError(f"{where}: {number} is too few", hint="at least 1: TensorFlow's defaults")
    return number


def _count(value: object, where: str) -> int:
    number = _whole(value, where)
    if number < 0:
        raise UserError(f"{where}: {number} is less than nothing")
    return number


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{where}: expected a list of texts, got {value!r}")
    return tuple(value)


def _seconds(value: object, where: str) -> float:
    return parse_duration(str(value), where=where)


def _variables(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UserError(f"{where}: expected a table of texts", hint='TF_CPP_MIN_LOG_LEVEL = "2"')
    for name in value:
        if not _VARIABLE.fullmatch(name):
            raise UserError(f'{where}: "{name}" can\'t be the name of a variable')
    return tuple(sorted(value.items()))


def _bytes(value: object, where: str) -> int:
    return parse_bytes(str(value), where=where)


def _margin(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UserError(f"{where}: expected a number between 0 and 1, got {value!r}")
    return float(value)


def _switch(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{where}: expected true or false, got {value!r}")
    return value


def _positive_size(value: object, where: str) -> int:
    return check_batch_size(_whole(value, where), where)


def check_batch_size(number: int, where: str) -> int:
    """Return a batch size; raise UserError for one that can't be."""
    if number < 1:
        raise UserError(f"{where}: a batch of {number} samples can't be", hint="at least 1")
    return number


def _shapes(value: object, where: str) -> tuple[str, ...]:
    return check_shapes(_texts(value, where), where)


def check_shapes(shapes: Sequence[str], where: str) -> tuple[str, ...]:
    """Return shapes of inputs; raise UserError for one that is not NAME=D1,D2,..."""
    for text in shapes:
        name, sign, dimensions = text.partition("=")
        sizes = dimensions.split(",")
        if not name or not sign or not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise UserError(f'{where} "{text}": not a shape', hint="write images=32,224,224,3")
    return tuple(shapes)


def _one_of(choices: type[enum.StrEnum]) -> Any:
    def read(value: object, where: str) -> enum.StrEnum:
        text = _text(value, where)
        if text not in [choice.value for choice in choices]:
            hint = did_you_mean(text, [choice.value for choice in choices])
            raise UserError(f'{where}: unknown value "{text}"', hint=hint)
        return choices(text)

    return read


# key in the file: (field of StudySpec, reader)
_KEYS: dict[str, tuple[str, Any]] = {
    "model": ("model", lambda value, where: Path(_text(value, where))),
    "arguments": ("arguments", _texts),
    "python": ("python", lambda value, where: Path(_text(value, where))),
    "name": ("name", _text),
    "description": ("description", _text),
    "knobs": ("knobs", _texts),
    "environment": ("environment", _variables),
    "measure": ("measure", _one_of(StepSource)),
    "phase": ("phase", _text),
    "trials": ("trials", _positive),
    "budget": ("budget_s", _seconds),
    "sampler": ("sampler", _one_of(SamplerName)),
    "seed": ("seed", _whole),
    "pairs": ("pairs", _count),
    "effort": ("effort", _one_of(Effort)),
    "objective": ("objective", _one_of(Objective)),
    "pairing": ("pairing", _one_of(Pairing)),
    "warm": ("warm", _one_of(Warm)),
    "max_memory": ("max_memory_bytes", _bytes),
    "max_latency_p99": ("max_latency_p99_s", _seconds),
    "margin": ("margin", _margin),
    "strict_numerics": ("strict_numerics", _switch),
    "batch_size": ("batch_size", _positive_size),
    "shapes": ("shapes", _shapes),
}
# keys of the file's [timing] table are the fields of Timing without the unit
_TIMING_KEYS = {f.name.removesuffix("_s"): f.name for f in dataclasses.fields(Timing)}


def _checked(table: dict[str, Any], known: Any, where: str) -> None:
    for key in table:
        if key not in known:
            raise UserError(f'{where}: unknown key "{key}"', hint=did_you_mean(key, known))


def load_study_file(path: Path) -> StudySpec:
    """Read a ``study.toml``; its ``model`` and ``python`` are relative to the file.

    Raises:
        UserError: if the file can't be read, is not TOML, holds an unknown key or a wrong value.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: can't be read: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    timing_table = document.pop("timing", {})
    if not isinstance(timing_table, dict):
        raise UserError(f"{path}: [timing] must be a table")
    _checked(document, _KEYS, str(path))
    _checked(timing_table, _TIMING_KEYS, f"{path}: [timing]")
    if "model" not in document:
        raise UserError(f'{path}: the key "model" is missing', hint='add model = "script.py"')
    fields = {
        _KEYS[key][0]: _KEYS[key][1](value, f"{path}: {key}") for key, value in document.items()
    }
    timing = {
        _TIMING_KEYS[key]: _seconds(value, f"{path}: [timing] {key}")
        for key, value in timing_table.items()
    }
    measure_s = timing.pop("measure_s", None)
    # os.path semantics on purpose: an interpreter in a venv is a link that must not be resolved
    fields["model"] = path.parent / fields["model"]
    if "python" in fields and len(fields["python"].parts) > 1:
        fields["python"] = path.parent / fields["python"]
    return StudySpec(**fields, measure_s=measure_s, timing=Timing(**timing))


def check_model(path: Path) -> Path:
    """Return the absolute path of a script or a saved model.

    Raises:
        UserError: if there is no such file or it is neither.
    """
    if path.is_dir() and not is_saved_model(path):
        hint = "name a Python script, a .keras file, or a folder with a saved_model.pb"
        raise UserError(f"{path}: is a folder, and no SavedModel", hint=hint)
    if not path.exists():
        raise UserError(f"{path}: no such file", hint="--model takes the path of a Python script")
    if not is_saved_model(path) and path.suffix not in (".py", ".pyw", ""):
        hint = "--model takes a .py file, a .keras file or a SavedModel's folder"
        raise UserError(f"{path}: not a Python script, nor a saved model", hint=hint)
    return path.absolute()


def is_saved_model(path: Path) -> bool:
    """Tell whether this is a model that was saved, not a script: its inference is then tuned."""
    return path.suffix in (".keras", ".h5") or (path / "saved_model.pb").is_file()
