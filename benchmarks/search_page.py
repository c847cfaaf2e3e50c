"""The tables and pictures of docs/search-results.md."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autotuner.report.pictures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from autotuner.testing.course import Course
from autotuner.testing.replay import Surface

OURS = "autotune"
RIVALS = ("random", "Optuna TPE")
PARTS = (0.05, 0.1, 0.2)
GOAL_PART, GOAL_MEDIAN, GOAL_LATE = 0.1, 0.02, 0.05
_LATE = 0.9
_MOST_REGRET = 0.3
_HEAD = """\
# Searches on recorded surfaces

Made by `make bench-search`; [search.md](search.md) describes the method and the results.
Regret is in %, median / 90th percentile of {seeds} seeds, of the recommended configuration, after
a part of the grid or a number of virtual minutes of a long run. The further columns: the part of
the runs that ended within 1, 2 and 5 % of the best; the part that called a configuration faster
that is not; the number of configurations tried. The second tables compare whole runs of the tool
with smaller budgets, from the first trial to the verdict, with searches by hand that stop at the
same time. "its files" is the regret of the exported files, which hold the defaults if nothing is
proven to be faster.
"""
_LINES = {
    "autotune": (BLUE, "-", 2.5),
    "autotune, TPE": (SKY, "-", 1.2),
    "autotune, random": (SKY, ":", 1.2),
    "random": (GREY, "-", 1.8),
    "grid": (GREY, ":", 1.2),
    "Optuna TPE": (ORANGE, "-", 1.8),
    "Nelder-Mead": (GREEN, "-", 1.2),
    "hill climbing": (PURPLE, "-", 1.2),
    "recipe": (VERMILION, "--", 1.2),
    "defaults": ("black", "--", 1.2),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeRuns:
    """What runs of the tool with one budget come to, and others in the same time.

    ``asked`` and ``used``: minutes, the latter in the median. ``claims``: part of the runs that
    call what they recommend faster. ``deployed``: regrets of what their files hold. ``regrets``: of
    what is recommended, by search, the tool's and its rivals'.
    """

    asked: float
    used: float
    claims: float
    deployed: Sequence[float]
    regrets: Mapping[str, Sequence[float]]

    @property
    def is_behind(self) -> bool:
        """Whether random search does better, in the median or in nine of ten runs."""
        pairs = zip(_both(self.regrets[OURS]), _both(self.regrets[RIVALS[0]]), strict=True)
        return any(ours > rival + 5e-4 for ours, rival in pairs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """What all strategies come to on one surface, each with so many seeds."""

    surface: Surface
    courses: Mapping[str, Course]
    seeds: int
    whole: Sequence[WholeRuns] = ()

    @property
    def name(self) -> str:
        """The surface's name."""
        return self.surface.provenance.name

    def tried_at(self, part: float) -> int:
        """Return how many configurations a part of the grid is."""
        return max(1, math.floor(part * len(self.surface.points)))

    def minutes(self) -> list[float]:
        """Return the minutes in the table."""
        every = next(iter(self.courses.values())).by_minutes
        return [m for m in every if m % 2 == 0]


def _both(values: Sequence[float]) -> tuple[float, float]:
    """Return median and 90th percentile."""
    middle, late = np.quantile(values, [0.5, _LATE]).tolist()
    return middle, late


def _percent(values: Sequence[float]) -> str:
    middle, late = _both(values)
    return f"{100 * middle:.1f} / {100 * late:.1f}"


def as_text(results: Results) -> str:
    """Return what is known of a surface, and the table, in Markdown."""
    return "\n".join([about(results.surface), "", *_table(results), "", *findings(results), ""])


def about(surface: Surface) -> str:
    """Return what a surface is, and how noisy."""
    spread, best = surface.spread, surface.truth[surface.best]
    axes = ", ".join(f"{name} ({len(v)})" for name, v in surface.provenance.axes.items())
    machine, build = surface.machine, surface.build
    recipe = surface.truth[surface.key(surface.space.recipe)]
    failed = f", {len(surface.failed)} fail" if surface.failed else ""
    return (
        f"{axes}: {len(surface.points)} configurations{failed}; {len(surface.duels)} duels, "
        f"{surface.outliers} left out as disturbed. {machine.cpu_model}, "
        f"{machine.affinity_cpus} CPUs, TensorFlow {build.tensorflow}. The best is "
        f"{math.exp(best):.2f} times the defaults, the recipe {math.exp(recipe):.2f}. Standard "
        f"deviation from process to process {spread.process:.1%}, standard error of the best "
        f"{surface.error[surface.best]:.1%}."
    )


def _table(results: Results) -> Iterator[str]:
    minutes = results.minutes()
    columns = [
        "search",
        *(f"{part:.0%} of the grid" for part in PARTS),
        *(f"{m:g} min" for m in minutes),
        *("within 1 %", "2 %", "5 %"),
        "false FASTER",
        "tried",
    ]
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for name, found in results.courses.items():
        within = [np.mean([r <= limit for r in found.final]) for limit in (0.01, 0.02, 0.05)]
        cells = [
            name,
            *(_percent(found.by_tried[results.tried_at(part)]) for part in PARTS),
            *(_percent(found.by_minutes[m]) for m in minutes),
            *(f"{share:.0%}" for share in within),
            f"{found.false_claims:.0%}",
            f"{found.tried:.0f}",
        ]
        yield "| " + " | ".join(cells) + " |"


def findings(results: Results) -> Iterator[str]:
    """Yield whether the goals are met."""
    if OURS not in results.courses:
        return
    ours = results.courses[OURS]
    count = results.tried_at(GOAL_PART)
    middle, late = _both(ours.by_tried[count])
    met = "met" if middle <= GOAL_MEDIAN and late <= GOAL_LATE else "NOT met"
    yield (
        f"Goal of {GOAL_MEDIAN:.0%} in the median and {GOAL_LATE:.0%} in nine of ten runs after "
        f"{count} configurations ({GOAL_PART:.0%} of the grid): {met}, {middle:.1%} and {late:.1%}."
    )
    whole = [one for one in results.whole if set(RIVALS) <= set(one.regrets)]
    if not whole:
        return
    yield ""
    yield f"| budget | used | {OURS} | says FASTER | its files | {' | '.join(RIVALS)} |"
    yield "|---" * (5 + len(RIVALS)) + "|"
    for one in whole:
        own, *others = (_percent(one.regrets[name]) for name in (OURS, *RIVALS))
        files = _percent(one.deployed)
        cells = [f"{one.asked:g} min", f"{one.used:.1f} min", own, f"{one.claims:.0%}", files]
        cells += others
        yield "| " + " | ".join(cells) + " |"
    yield ""
    worse = ", ".join(f"{one.asked:g}" for one in whole if one.is_behind)
    behind = f"behind with {worse} minutes" if worse else "nowhere behind"
    yield f"Whole runs against random search, median and nine of ten: {behind}."


def draw(results: Results, path: Path) -> None:
    """Draw a surface's courses: medians above, nine of ten below; by tries and by minutes."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2, sharey=True)
    for row, (quantile, text) in zip(axes, ((0.5, "median"), (_LATE, "9 of 10")), strict=True):
        for name, found in results.courses.items():
            colour, dash, width = _LINES[name]
            courses: list[Mapping[Any, Sequence[float]]] = [found.by_tried, found.by_minutes]
            for axis, by in zip(row, courses, strict=True):
                regrets = [100 * float(np.quantile(values, quantile)) for values in by.values()]
                axis.plot(list(by), regrets, dash, color=colour, linewidth=width, label=name)
        _label(row[0], results.tried_at(GOAL_PART))
        row[0].set_ylabel(f"regret, {text} of the runs (%)")
        row[1].grid(alpha=0.3)
    axes[1, 0].set_xlabel("configurations tried (dotted: 10 % of the grid)")
    axes[1, 1].set_xlabel("virtual minutes")
    axes[0, 0].set_ylim(-1, 100 * _MOST_REGRET)
    axes[0, 1].legend(ncols=2, fontsize="small")
    figure.suptitle(f"{results.name}: what the recommended configuration misses of the best one")
    figure.savefig(path, dpi=80)


def _label(axis: Axes, goal: int) -> None:
    axis.axvline(goal, color="black", linestyle=":", linewidth=1)
    axis.grid(alpha=0.3)


def write_page(pages: Sequence[Results], folder: Path) -> None:
    """Write the page and its pictures."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = [_HEAD.format(seeds=pages[0].seeds)]
    for results in pages:
        picture = f"search-{results.name}.png"
        draw(results, folder / "pictures" / picture)
        alternative = (
            f"Regret by configurations tried and by minutes, for each search: {results.name}"
        )
        lines += ["", f"## {results.name}", "", as_text(results)]
        lines.append(f"![{alternative}](pictures/{picture})")
    (folder / "search-results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
