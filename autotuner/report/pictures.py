"""The pictures of a study, made once for the dashboard and for the report.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; shapes differ as well.
Every picture has a text alternative that describes it.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from autotuner.report.wording import describe, number, role_text, trial_text
from autotuner.statistics.knob_model import KnobEffect
from autotuner.statistics.sequential import CONFIDENCE
from autotuner.study.record import Role, TrialRecord
from autotuner.verdict.result import Result

if TYPE_CHECKING:
    from plotly import graph_objects as go

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#7F7F7F",
)
_MARKS = {
    Role.DEFAULT: (GREY, "diamond"),
    Role.CONTROL: (GREY, "diamond-open"),
    Role.RECIPE: (ORANGE, "square"),
    Role.SCRIPT: (PURPLE, "cross"),
    Role.SEARCH: (BLUE, "circle"),
    Role.RACE: (SKY, "triangle-up"),
    Role.FINAL: (VERMILION, "star"),
    Role.IMPORTED: (PURPLE, "circle-open"),
}
MOST_POINTS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure and its text alternative. ``name``: its id in pages."""

    name: str
    title: str
    alternative: str
    figure: "go.Figure"


def pictures(result: Result) -> list[Picture]:
    """Return the pictures for which there are data."""
    made = (make(result) for make in _MAKERS)
    return [picture for picture in made if picture is not None]


def _figure(title: str, x: str, y: str) -> "go.Figure":
    # plotly takes a while to import; a command without pictures need not wait for it
    from plotly import graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0, "xref": "paper"},
        template="none",
        xaxis={"title": {"text": x}, "automargin": True, "zeroline": False},
        yaxis={"title": {"text": y}, "automargin": True, "zeroline": False},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        margin={"l": 10, "r": 10, "t": 45, "b": 10},
        hovermode="closest",
        height=380,
    )
    return figure


def _one(figure: "go.Figure") -> None:
    """Draw the line of the defaults."""
    figure.add_hline(y=1, line={"dash": "dash", "color": GREY, "width": 1})


def _thinned(records: Sequence[TrialRecord]) -> tuple[list[TrialRecord], int]:
    """Return the records to draw, and n if only every nth trial of the search is among them."""
    search = [r for r in records if r.role is Role.SEARCH]
    every = max(1, math.ceil(len(search) / MOST_POINTS))
    kept = {r.number for r in search[::every]}
    return [r for r in records if r.role is not Role.SEARCH or r.number in kept], every


def _error_bars(records: Sequence[TrialRecord]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [_arm(r.gain_high, r.gain) for r in records],
        "arrayminus": [_arm(r.gain, r.gain_low) for r in records],
        "thickness": 1,
        "width": 2,
    }


def _arm(end: float | None, start: float | None) -> float | None:
    return None if end is None or start is None else round(end - start, 4)


def _by_role(records: Sequence[TrialRecord]) -> dict[Role, list[TrialRecord]]:
    return {role: [r for r in records if r.role is role] for role in Role}


def ratios(result: Result) -> Picture | None:
    """Return each trial's gain over the defaults beside it, with its interval."""
    measured = [r for r in result.records if r.gain is not None]
    shown, every = _thinned([r for r in measured if r.configuration or r.role is not Role.FINAL])
    figure = _figure("Search: speed over the default's, by trial", "trial", "times the default")
    _one(figure)
    default = result.facts.space.default
    for role, records in _by_role(shown).items():
        if not records:
            continue
        colour, symbol = _MARKS[role]
        figure.add_scatter(
            x=[r.number for r in records],
            y=[round(r.gain or 1.0, 4) for r in records],
            error_y=_error_bars(records),
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            name=role_text(role),
            text=[describe(r.configuration, default) for r in records],
            hovertemplate="trial %{x}: %{y:.2f}x<br>%{text}<extra>%{fullData.name}</extra>",
        )
    failed = [r for r in result.records if r.status is not None and r.gain is None][:MOST_POINTS]
    if failed:
        figure.add_scatter(
            x=[r.number for r in failed],
            y=[1.0] * len(failed),
            mode="markers",
            marker={"color": VERMILION, "symbol": "x-thin-open", "size": 9},
            name="did not count",
            text=[r.reason for r in failed],
            hovertemplate="trial %{x}: %{text}<extra></extra>",
        )
    best = max((r.gain or 0.0 for r in measured if r.role is Role.SEARCH), default=None)
    words = f"{len(measured)} trials were measured"
    if best is not None:
        words += f"; the best single one of the search ran at {best:.2f} times the default's speed"
    if every > 1:
        words += f"; of the search every {every}th is drawn"
    return Picture(
        name="ratios",
        title="Search",
        alternative=f"{words}. Bars are 95 % intervals inside one process.",
        figure=figure,
    )


def drift(result: Result) -> Picture | None:
    """Return the scores of trials and of the defaults beside them over time."""
    timed = [r for r in result.records if r.started is not None and r.score is not None]
    if len(timed) < 2:
        return None
    shown, _ = _thinned(timed)
    begin = shown[0].started
    assert begin is not None
    minutes = [round((r.started - begin).total_seconds() / 60, 3) for r in shown if r.started]
    unit = result.facts.score_unit
    figure = _figure("Drift: the defaults themselves over time", "minutes", unit)
    figure.update_yaxes(rangemode="tozero")
    figure.add_scatter(
        x=minutes,
        y=[r.score for r in shown],
        mode="markers",
        marker={"color": BLUE, "size": 7},
        name="trials",
        text=[f"trial {r.number}, {trial_text(r)}" for r in shown],
        hovertemplate="%{text}: %{y:.4g}<extra></extra>",
    )
    references = [(m, r.reference) for m, r in zip(minutes, shown, strict=True) if r.reference]
    figure.add_scatter(
        x=[m for m, _ in references],
        y=[reference for _, reference in references],
        mode="lines+markers",
        line={"color": GREY, "width": 1},
        marker={"color": GREY, "symbol": "diamond-open", "size": 7},
        name="the defaults beside them",
        hovertemplate="defaults: %{y:.4g}<extra></extra>",
    )
    words = "The scores of trials over time, and of the defaults beside them."
    if references:
        low, high = (f(value for _, value in references) for f in (min, max))
        words += f" The defaults ran at {number(low)} to {number(high)} {unit}."
    return Picture(name="drift", title="Drift", alternative=words, figure=figure)


def _effect_name(effect: KnobEffect) -> str:
    return f"{effect.knob} = {effect.value}"


def effects(result: Result) -> Picture | None:
    """Return the effect of each value of each knob by itself."""
    found = list(reversed(result.effects))
    if not found:
        return None
    figure = _figure("Effects of single settings (indicative)", "times the default", "")
    figure.add_vline(x=1, line={"dash": "dash", "color": GREY, "width": 1})
    figure.add_scatter(
        x=[round(e.ratio, 4) for e in found],
        y=[_effect_name(e) for e in found],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [round(e.high - e.ratio, 4) for e in found],
            "arrayminus": [round(e.ratio - e.low, 4) for e in found],
            "thickness": 1,
            "width": 3,
        },
        mode="markers",
        marker={"color": GREEN, "size": 8},
        text=[f"{e.trials} trials" for e in found],
        hovertemplate="%{y}: %{x:.2f}x, %{text}<extra></extra>",
        showlegend=False,
    )
    figure.update_layout(height=max(220, 90 + 24 * len(found)))
    clear = [e for e in result.effects if e.low > 1 or e.high < 1]
    named = ", ".join(f"{_effect_name(e)} {e.ratio:.2f}x" for e in clear[:8])
    words = f"By themselves these seem to matter: {named}." if clear else "No setting stands out."
    return Picture(
        name="effects",
        title="Effects of single settings",
        alternative=f"{words} Indicative: 95 % intervals of the model that chose the trials.",
        figure=figure,
    )


def final(result: Result) -> Picture | None:
    """Return the pairs of the final, and the verdict's interval."""
    finding = result.decision.finding
    pairs = result.final_pairs
    if finding is None or not pairs:
        return None
    values = [round(math.exp(pair.log), 4) for pair in pairs]
    figure = _figure(
        "Final: the best against the defaults, in pairs of new processes",
        "pair",
        "times the default",
    )
    _one(figure)
    for first, name, symbol in (
        (False, "the defaults started first", "circle"),
        (True, "the best started first", "circle-open"),
    ):
        chosen = [k for k, pair in enumerate(pairs) if pair.first is first]
        figure.add_scatter(
            x=[k + 1 for k in chosen],
            y=[values[k] for k in chosen],
            mode="markers",
            marker={"color": BLUE, "symbol": symbol, "size": 10, "line": {"width": 2}},
            name=name,
            hovertemplate="pair %{x}: %{y:.3f}x<extra></extra>",
        )
    figure.add_hline(y=finding.ratio, line={"color": VERMILION, "width": 2})
    words = f"{len(pairs)} pairs, from {min(values):.2f} to {max(values):.2f} times the default"
    if finding.low is not None and finding.high is not None:
        figure.add_hrect(
            y0=finding.low, y1=finding.high, fillcolor=VERMILION, opacity=0.15, line_width=0
        )
        words += (
            f"; mean {finding.ratio:.2f}, {CONFIDENCE:.0%} interval {finding.low:.2f} to "
            f"{finding.high:.2f} (the line and the band)"
        )
    figure.update_xaxes(dtick=max(1, len(pairs) // 16))
    return Picture(name="final", title="Final", alternative=f"{words}.", figure=figure)


_MAKERS: tuple[Callable[[Result], Picture | None], ...] = (final, ratios, effects, drift)
