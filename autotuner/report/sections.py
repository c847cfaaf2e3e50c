"""The sections of a report, as data: the page, the Markdown and the study's note are made of them.

Texts here are plain; whoever renders them escapes what his format needs.
"""

import dataclasses
import os
import shlex

from autotuner.export.content import variables
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.liveness import KnobState
from autotuner.options.duration import format_duration
from autotuner.report.contents import Contents
from autotuner.report.pictures import Picture, pictures
from autotuner.report.repeat import repeat_commands
from autotuner.report.wording import (
    describe,
    disturbance_text,
    drift_text,
    noise_lines,
    notice_text,
    number,
    own_text,
    percent,
    role_text,
    trial_text,
)
from autotuner.statistics.comparison import corrected
from autotuner.statistics.sequential import rule_of
from autotuner.study.record import REFERENCE, Role, TrialRecord
from autotuner.trial.outcome import STAGES
from autotuner.verdict.decision import Candidate
from autotuner.verdict.sentences import further_sentences, ratio_text

INDICATIVE = (
    "Indicative only: an additive model over all trials of the search, which did not try values "
    "evenly. What is proven is proven by the final."
)

_HOW_TO_APPLY = (
    "These variables go into the environment. Settings of tf.data and keras need best.py, or: "
    "autotune exec best.json -- python ..."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table. ``value``: by which it sorts, where that is not its text."""

    text: str
    value: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A table. ``numeric``: the columns that hold numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[str, ...] = ()


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


def sections(contents: Contents) -> list[Section]:
    """Return the sections for which there is something to say, the verdict first."""
    drawn = {picture.name: picture for picture in pictures(contents)}

    def shown(*names: str) -> tuple[Picture, ...]:
        return tuple(drawn[name] for name in names if name in drawn)

    found = [
        _verdict(contents),
        _configuration(contents),
        _final(contents, shown("final")),
        _search(contents, shown("ratios")),
        _effects(contents, shown("effects")),
        _knobs(contents),
        _bottleneck(contents),
        _noise(contents, shown("drift")),
        _time(contents),
        _trials(contents),
        _machine(contents),
        _repeat(contents),
    ]
    return [section for section in found if section is not None]


def _text(value: object) -> Cell:
    return Cell(text=str(value))


def _number(value: float | None, shown: str = "") -> Cell:
    if value is None:
        return Cell(text="")
    return Cell(text=shown or number(value), value=value)


def _verdict(contents: Contents) -> Section:
    export = contents.export
    lines = [export.sentence, *further_sentences(export.decision, export.payback)]
    own = export.decision.own
    if own is not None:
        lines.append(own_text(own))
    lines += [notice_text(notice) for notice in export.notices]
    return Section(name="verdict", title="Verdict", lines=tuple(lines))


def _configuration(contents: Contents) -> Section:
    export, default = contents.export, contents.facts.space.default
    deployed = contents.decision.deployed.configuration
    exported = variables(export).items()
    rows = [
        (
            _text(name),
            _text(value),
            _text(default.get(name, "-")),
            _text(f"{KNOBS[name].means.value}: {KNOBS[name].variable}"),
        )
        for name, value in deployed.items()
    ]
    line = "To deploy: TensorFlow's defaults, written out."
    if contents.decision.deploys_best:
        line = f"To deploy: {describe(deployed, default)}."
    return Section(
        name="configuration",
        title="Configuration",
        lines=(line, _HOW_TO_APPLY),
        code="\n".join(f"export {name}={shlex.quote(value)}" for name, value in exported),
        grid=Grid(columns=("setting", "value", "default", "how"), rows=tuple(rows)),
    )


def _final(contents: Contents, drawn: tuple[Picture, ...]) -> Section | None:
    finding = contents.decision.finding
    if finding is None:
        return None
    return Section(name="final", title="Final", lines=(contents.export.sentence,), pictures=drawn)


def _search(contents: Contents, drawn: tuple[Picture, ...]) -> Section:
    decision, facts = contents.decision, contents.facts
    finding = decision.finding
    named: list[tuple[str, Candidate | None]] = [
        (role_text(Role.DEFAULT), decision.default),
        (role_text(Role.RECIPE), decision.recipe),
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
                _text(describe(candidate.configuration, facts.space.default)),
            )
        )
    columns = ("configuration", facts.score_unit, "search", "final", "settings that differ")
    tried = sum(record.role is Role.SEARCH for record in contents.records)
    space = f"{facts.space.size:,} points of {', '.join(facts.space.domains)}"
    return Section(
        name="search",
        title="Search",
        lines=(
            f"{len(contents.records)} trials, {tried} of them of the search, in {space}.",
            "Gains are over the defaults beside them, pooled; the final is made of new processes.",
        ),
        grid=Grid(columns=columns, rows=tuple(rows), numeric=columns[1:4]),
        pictures=drawn,
    )


def _effects(contents: Contents, drawn: tuple[Picture, ...]) -> Section | None:
    if not contents.effects:
        return None
    rows = [
        (
            _text(effect.knob),
            _text(effect.value),
            _number(effect.ratio, ratio_text(effect.ratio)),
            _text(f"{effect.low:.2f}x to {effect.high:.2f}x"),
            _number(effect.trials, str(effect.trials)),
        )
        for effect in contents.effects
    ]
    columns = ("setting", "value", "effect", "95 % interval", "trials")
    return Section(
        name="effects",
        title="Effects of single settings (indicative)",
        lines=(INDICATIVE,),
        grid=Grid(columns=columns, rows=tuple(rows), numeric=("effect", "trials")),
        pictures=drawn,
        bulky=True,
    )


def _knobs(contents: Contents) -> Section | None:
    liveness = contents.facts.liveness
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


def _bottleneck(contents: Contents) -> Section | None:
    if contents.diagnosis is None:
        return None
    return Section(name="bottleneck", title="Bottleneck", lines=(contents.diagnosis.sentence,))


def _noise(contents: Contents, drawn: tuple[Picture, ...]) -> Section | None:
    noise = contents.noise
    if noise is None:
        return None
    lines = noise_lines(noise, rule_of(contents.spec))
    said = (drift_text(contents.records), disturbance_text(contents.records, noise))
    lines += [line for line in said if line is not None]
    return Section(name="noise", title="Noise and drift", lines=tuple(lines), pictures=drawn)


def _time(contents: Contents) -> Section | None:
    """Return what the run's wall time went into."""
    if not any(record.stages_s for record in contents.records) or not contents.wall_s:
        return None
    shares = {
        name: sum(record.stages_s.get(name, 0.0) for record in contents.records)
        for name in (*STAGES, REFERENCE)
    }
    rest_s = max(0.0, contents.wall_s - sum(shares.values()))
    spent = [
        *((text, shares[name]) for name, text in STAGES.items()),
        ("starting the defaults' processes that trials meet", shares[REFERENCE]),
        ("failed trials, proposing, storing, and all else", rest_s),
    ]
    counted = (shares["warmup"] + shares["measure"]) / contents.wall_s
    lines = [f"Warm-up and measuring: {percent(counted)} of {format_duration(contents.wall_s)}."]
    check = contents.warm_check
    if check is not None and check.why:
        lines.append(f"Warm start {'on' if check.used else 'off'}: {check.why}.")
    rows = tuple(
        (_text(text), _number(seconds), _number(seconds, percent(seconds / contents.wall_s)))
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


def _trials(contents: Contents) -> Section:
    facts = contents.facts
    columns = ("trial", "role", "outcome", "gain", "95 % interval", "settings that differ")
    figures = (facts.score_unit, "p50 ms", "p95 ms", "p99 ms", "CPU s", "peak MiB")
    rows = []
    for record in contents.records:
        took = record.figures
        what = describe(record.configuration, facts.space.default) if record.configuration else ""
        outcome = "not finished" if record.status is None else record.status.value
        rows.append(
            (
                _number(record.number, str(record.number)),
                _text(trial_text(record)),
                _text(f"{outcome}: {record.reason}" if record.reason else outcome),
                _number(record.gain, "" if record.gain is None else ratio_text(record.gain)),
                _text(_interval(record)),
                _text(what),
                _number(record.score),
                *(
                    _number(value)
                    for value in (
                        took.step_ms_p50,
                        took.step_ms_p95,
                        took.step_ms_p99,
                        took.cpu_s,
                        took.peak_rss_mib,
                    )
                ),
            )
        )
    grid = Grid(
        columns=(*columns, *figures),
        rows=tuple(rows),
        numeric=("trial", "gain", *figures),
    )
    return Section(name="trials", title="Every trial", grid=grid, bulky=True)


def _machine(contents: Contents) -> Section:
    facts = contents.facts
    identity, machine, build = facts.identity, facts.machine, facts.build
    lines = [
        f"machine: {identity.machine}",
        f"versions: TensorFlow {build.tensorflow}, keras {build.keras or '-'}, "
        f"Python {build.python}, autotune {contents.export.version}",
        f"model: {identity.model}, SHA-256 {identity.model_sha256}",
        f"a step is: {facts.source} {facts.phase}".rstrip(),
        f"measured by: {facts.objective.value}, in {facts.score_unit}",
    ]
    if machine.isa:
        lines.append(f"vector instructions: {machine.isa}")
    if contents.noise is not None:
        lines.append(f"other processes used {percent(contents.noise.others_cores)} of a CPU")
    return Section(name="machine", title="Machine and versions", lines=tuple(lines))


def _repeat(contents: Contents) -> Section:
    best = os.path.relpath(contents.facts.folder / "best.json")
    return Section(
        name="repeat",
        title="Repeat it",
        lines=("Each trial's folder holds repro.sh, which runs it by hand.",),
        code="\n".join(repeat_commands(contents.export.study, best, contents.spec)),
    )
