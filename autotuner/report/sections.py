"""The sections of a result, as data, which every rendering shows: the terminal, the page, Markdown,
JSON and the study's note in the dashboard.

Texts here are plain; each renderer escapes them for its format.
"""

import dataclasses
import shlex

from autotuner import __version__
from autotuner.export.content import Export, export_of, variables
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.liveness import KnobState
from autotuner.options.duration import format_duration
from autotuner.plain import plain, plain_lines
from autotuner.report.pictures import Picture, pictures
from autotuner.report.repeat import repeat_commands
from autotuner.report.wording import (
    describe,
    disturbance_text,
    drift_text,
    noise_lines,
    notice_text,
    number,
    outcome_text,
    own_text,
    percent,
    role_text,
    step_text,
    trial_text,
)
from autotuner.statistics.comparison import corrected
from autotuner.statistics.sequential import rule_of
from autotuner.study.record import REFERENCE, Role, TrialRecord
from autotuner.trial.outcome import STAGES
from autotuner.verdict.decision import Candidate
from autotuner.verdict.result import Result
from autotuner.verdict.sentences import ratio_text

INDICATIVE = (
    "Indicative only: what the model that chose the trials predicts for the defaults with this one "
    "setting changed. It counts failed trials as clearly slower. Only the final proves a gain."
)

_INTERVAL = "95 % interval"
_OTHERS = "others' CPUs"
_HOW_TO_APPLY = (
    "These variables go into the environment. Settings of tf.data and keras need best.py, or: "
    "autotune exec best.json -- python ..."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table. ``value``: the number to sort by, if it is not its text."""

    text: str
    value: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A table. ``numeric``: the columns of numbers. ``details``: those that a brief view omits."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report. ``code`` is to be copied. ``bulky``: too long for a note."""

    name: str
    title: str
    lines: tuple[str, ...] = ()
    code: str = ""
    grid: Grid | None = None
    pictures: tuple[Picture, ...] = ()
    bulky: bool = False


def sections(result: Result, *, anyway: bool = False, draw: bool = True) -> list[Section]:
    """Return the sections that have a content, the verdict first.

    Args:
        result: of the study.
        anyway: the files hold the best of the search even if it is not recommended.
        draw: with pictures, which take a second to draw.
    """
    export = export_of(result, anyway=anyway)
    drawn = _draw(result) if draw else {}

    def shown(*names: str) -> "tuple[Picture, ...]":
        return tuple(drawn[name] for name in names if name in drawn)

    found = [
        _verdict(export, shown("final")),
        _configuration(export),
        _search(result, shown("ratios")),
        _effects(result, shown("effects")),
        _knobs(result),
        _bottleneck(result),
        _noise(result, shown("drift")),
        _time(result),
        _trials(result),
        _machine(result),
        _repeat(result),
    ]
    return [made_plain(section) for section in found if section is not None]


def made_plain(section: Section) -> Section:
    """Return a section whose paths, names and messages are safe to show."""
    grid = section.grid
    if grid is not None:
        rows = tuple(
            tuple(dataclasses.replace(cell, text=plain(cell.text)) for cell in row)
            for row in grid.rows
        )
        grid = dataclasses.replace(grid, rows=rows)
    return dataclasses.replace(
        section,
        title=plain(section.title),
        lines=tuple(map(plain, section.lines)),
        code=plain_lines(section.code),
        grid=grid,
    )


def _text(value: object) -> Cell:
    return Cell(text=str(value))


def _number(value: float | None, shown: str = "") -> Cell:
    if value is None:
        return Cell(text="")
    return Cell(text=shown or number(value), value=value)


def _draw(result: Result) -> dict[str, Picture]:
    """Return the pictures by name."""
    return {picture.name: picture for picture in pictures(result)}


def _verdict(export: Export, drawn: "tuple[Picture, ...]") -> Section:
    result, default = export.result, export.result.facts.space.default
    own = result.decision.own
    deployed = "TensorFlow's defaults as explicit values"
    if export.holds_best:
        deployed = describe(export.configuration, default)
    lines = (
        *export.statements(),
        f"To deploy: {deployed}.",
        *([] if own is None else [own_text(own)]),
        *(f"note: {notice_text(notice)}" for notice in export.notices),
    )
    return Section(name="verdict", title="Verdict", lines=lines, pictures=drawn)


def _configuration(export: Export) -> Section:
    default = export.result.facts.space.default
    rows = [
        (
            _text(name),
            _text(value),
            _text(default.get(name, "-")),
            _text(f"{KNOBS[name].means.value}: {KNOBS[name].variable}"),
        )
        for name, value in export.configuration.items()
    ]
    exports = [f"export {name}={shlex.quote(v)}" for name, v in variables(export).items()]
    return Section(
        name="configuration",
        title="Configuration",
        lines=(_HOW_TO_APPLY,),
        code="\n".join(exports),
        grid=Grid(columns=("setting", "value", "default", "how"), rows=tuple(rows)),
    )


def _search(result: Result, drawn: "tuple[Picture, ...]") -> Section:
    decision, facts = result.decision, result.facts
    finding, space = decision.finding, facts.space
    named: list[tuple[str, Candidate | None]] = [
        (role_text(Role.DEFAULT), decision.default),
        (role_text(Role.RECIPE), None if space.recipe == space.default else decision.recipe),
        (role_text(Role.SCRIPT), decision.own),
        ("best", None if decision.is_default else decision.best),
    ]
    rows = []
    for name, candidate in named:
        if candidate is None:
            continue
        score = corrected(facts.base, candidate.gain, facts.objective)
        final = finding.ratio if finding is not None and name == "best" else None
        rows.append(
            (
                _text(name),
                _number(score),
                _number(candidate.gain, ratio_text(candidate.gain)),
                _number(final, "" if final is None else ratio_text(final)),
                _text(describe(candidate.configuration, space.default)),
            )
        )
    columns = ("configuration", facts.score_unit, "search", "final", "settings that differ")
    tried = sum(record.role is Role.SEARCH for record in result.records)
    points = f"{space.size:,} points of {', '.join(space.domains)}"
    return Section(
        name="search",
        title="Search",
        lines=(
            f"{len(result.records)} trials, {tried} of them of the search, in {points}.",
            "Each gain compares a trial with a process of the defaults in the same seconds.",
        ),
        grid=Grid(columns=columns, rows=tuple(rows), numeric=columns[1:4]),
        pictures=drawn,
    )


def _effects(result: Result, drawn: "tuple[Picture, ...]") -> Section | None:
    if not result.effects:
        return None
    rows = [
        (
            _text(effect.knob),
            _text(effect.value),
            _number(effect.ratio, ratio_text(effect.ratio)),
            _text(f"{effect.low:.2f}x to {effect.high:.2f}x"),
            _number(effect.trials, str(effect.trials)),
        )
        for effect in result.effects
    ]
    columns = ("setting", "value", "effect", _INTERVAL, "trials")
    return Section(
        name="effects",
        title="Effects of single settings (indicative)",
        lines=(INDICATIVE,),
        grid=Grid(columns=columns, rows=tuple(rows), numeric=("effect", "trials")),
        pictures=drawn,
        bulky=True,
    )


def _knobs(result: Result) -> Section | None:
    liveness = result.facts.liveness
    if not liveness:
        return None
    rows = [
        (_text(one.knob), _text(one.state.value), _text(one.reason), _text(one.evidence))
        for one in liveness
    ]
    by_state = {state: [one.knob for one in liveness if one.state is state] for state in KnobState}
    lines = [f"{state.value}: {', '.join(names)}" for state, names in by_state.items() if names]
    return Section(
        name="knobs",
        title="Which knobs can act here",
        lines=tuple(lines),
        grid=Grid(columns=("knob", "state", "why", "evidence"), rows=tuple(rows)),
    )


def _bottleneck(result: Result) -> Section | None:
    if result.diagnosis is None:
        return None
    return Section(name="bottleneck", title="Bottleneck", lines=(result.diagnosis.sentence,))


def _noise(result: Result, drawn: "tuple[Picture, ...]") -> Section | None:
    noise = result.noise
    if noise is None:
        return None
    lines = noise_lines(noise, rule_of(result.spec))
    during = (drift_text(result.records), disturbance_text(result.records, noise))
    lines += [line for line in during if line is not None]
    return Section(name="noise", title="Noise and drift", lines=tuple(lines), pictures=drawn)


def _time(result: Result) -> Section | None:
    """Return the shares of the run's wall time."""
    if not any(record.stages_s for record in result.records) or not result.tuning_s:
        return None
    shares = {
        name: sum(record.stages_s.get(name, 0.0) for record in result.records)
        for name in (*STAGES, REFERENCE)
    }
    rest_s = max(0.0, result.tuning_s - sum(shares.values()))
    spent = [
        *((text, shares[name]) for name, text in STAGES.items()),
        ("starting the reference processes", shares[REFERENCE]),
        ("failed trials, proposing, storing and everything else", rest_s),
    ]
    counted = (shares["warmup"] + shares["measure"]) / result.tuning_s
    lines = [f"Warm-up and measuring: {percent(counted)} of {format_duration(result.tuning_s)}."]
    check = result.warm_check
    if check is not None and check.why:
        lines.append(f"Warm start {'on' if check.used else 'off'}: {check.why}.")
    rows = tuple(
        (_text(text), _number(seconds), _number(seconds, percent(seconds / result.tuning_s)))
        for text, seconds in spent
    )
    grid = Grid(columns=("what", "seconds", "share"), rows=rows, numeric=("seconds", "share"))
    return Section(
        name="time", title="Where the time went", lines=tuple(lines), grid=grid, bulky=True
    )


def _interval(record: TrialRecord) -> str:
    if record.gain is None or record.gain_low is None or record.gain_high is None:
        return ""
    return f"{record.gain_low:.2f}x to {record.gain_high:.2f}x"


def _trials(result: Result) -> Section:
    facts = result.facts
    numbers = (facts.score_unit, "p50 ms", "p95 ms", "p99 ms", "CPU s", "peak MiB")
    rows = []
    for record in result.records:
        took, others = record.figures, record.others_cores
        what = describe(record.configuration, facts.space.default) if record.configuration else ""
        figures = (took.step_ms_p50, took.step_ms_p95, took.step_ms_p99)
        rows.append(
            (
                _number(record.number, str(record.number)),
                _text(trial_text(record)),
                _text(outcome_text(record)),
                _number(record.gain, "" if record.gain is None else ratio_text(record.gain)),
                _text(_interval(record)),
                _number(others, "" if others is None else f"{others:.1f}"),
                _text(what),
                *map(_number, (record.score, *figures, took.cpu_s, took.peak_rss_mib)),
            )
        )
    columns = ("trial", "role", "outcome", "gain", _INTERVAL, _OTHERS, "settings that differ")
    grid = Grid(
        columns=(*columns, *numbers),
        rows=tuple(rows),
        numeric=("trial", "gain", _OTHERS, *numbers),
        details=(_INTERVAL, *numbers),
    )
    return Section(name="trials", title="Every trial", grid=grid, bulky=True)


def _machine(result: Result) -> Section:
    facts = result.facts
    identity, machine, build = facts.identity, facts.machine, facts.build
    lines = [
        f"machine: {identity.machine}",
        f"versions: TensorFlow {build.tensorflow}, keras {build.keras or '-'}, "
        f"Python {build.python}, autotune {__version__}",
        f"model: {identity.model}, SHA-256 {identity.model_sha256}",
        f"a step is: {step_text(facts.source, facts.phase)}",
        f"measured by: {facts.objective.value}, in {facts.score_unit}",
    ]
    if machine.isa:
        lines.append(f"vector instructions: {machine.isa}")
    if result.noise is not None:
        lines.append(f"other processes used {percent(result.noise.others_cores)} of a CPU")
    return Section(name="machine", title="Machine and versions", lines=tuple(lines))


def _repeat(result: Result) -> Section:
    best = str(result.facts.folder / "best.json")
    return Section(
        name="repeat",
        title="Repeat it",
        lines=("Each trial's folder holds repro.sh, which runs it by hand.",),
        code="\n".join(repeat_commands(result.study, best, result.spec)),
    )
