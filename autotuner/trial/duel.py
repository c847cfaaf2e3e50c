"""A duel: two processes in turns, one stopped while the other runs.

A disturbance of seconds or minutes then affects both. The first moments of a turn, in which caches
and buffers fill again, do not count. Steps are assigned to turns by the time stamps of their ends,
which the child takes.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from autotuner.trial.live_trial import LiveTrial, machine_cpu_s
from autotuner.trial.outcome import Round, Turn
from autotuner.trial.progress import Mark

_LEAST_STEPS = 3
_LONGEST_TURN = 8  # slices
_MOST_TIMES = 2000
_PAUSE = 10.0
_RARE = 0.05
_LEAST_MARKS = 30

Enough = Callable[[Sequence[Round]], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuelPlan:
    """The times of a duel, in seconds.

    A turn lasts ``slice_s``, or longer until it holds a few steps. Its first ``settle_s`` do not
    count. The duel ends after ``measure_s`` of counted time of the candidate, or earlier if the
    caller's ``enough`` returns True, but not before ``least_rounds``.
    """

    slice_s: float = 0.3
    settle_s: float = 0.06
    measure_s: float = 3.0
    least_rounds: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuelResult:
    """The result of a duel. ``others_cores``: CPUs that all other processes used meanwhile."""

    rounds: tuple[Round, ...]
    closing: Turn | None
    others_cores: float | None


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Start and end of a side's turn, and the CPU time it took."""

    start_s: float
    end_s: float
    cpu_s: float


def run_duel(
    reference: LiveTrial, candidate: LiveTrial, plan: DuelPlan, enough: Enough
) -> DuelResult:
    """Let two stopped, warm processes take turns; afterwards both are stopped or over."""
    origin, machine_before = time.monotonic(), machine_cpu_s()
    stretches: dict[LiveTrial, list[Stretch]] = {reference: [], candidate: []}
    reference.forget_marks()
    reference.renew_deadline()

    def turn(side: LiveTrial) -> bool:
        stretch = _take_turn(side, plan)
        name = "candidate" if side is candidate else "reference"
        candidate.note("turn", side=name, **dataclasses.asdict(stretch))
        stretches[side].append(stretch)
        return not side.over

    def count() -> tuple[list[Turn | None], list[Turn | None]]:
        """Return the turns of the reference and of the candidate so far."""
        sides = (reference, candidate)
        placed = [place_steps(side.marks, stretches[side], plan) for side in sides]
        leave_out = pauses_are_rare([[one.step_s for one in steps] for steps in placed])
        of_both = [
            _turns(steps, stretches[side], origin, leave_out=leave_out)
            for side, steps in zip(sides, placed, strict=True)
        ]
        return of_both[0], of_both[1]

    while turn(reference) and turn(candidate):
        rounds = _rounds(*count())
        if len(rounds) < plan.least_rounds:
            continue
        counted = sum(one.candidate.duration_s for one in rounds)
        if counted >= plan.measure_s or enough(rounds):
            break
    if not reference.over and not candidate.over:
        turn(reference)
    turns, answers = count()
    rounds = _rounds(turns, answers)
    closing = turns[len(stretches[candidate])] if len(turns) > len(stretches[candidate]) else None
    wall_s = time.monotonic() - origin
    own_s = sum(stretch.cpu_s for side in stretches.values() for stretch in side)
    others = max(0.0, machine_cpu_s() - machine_before - own_s) / wall_s
    return DuelResult(rounds=tuple(rounds), closing=closing, others_cores=others)


def _take_turn(side: LiveTrial, plan: DuelPlan) -> Stretch:
    """Let one side run for a slice, or longer until it has done a few steps."""
    cpu_before = side.cpu_s
    start = side.resume()
    end = start + plan.slice_s
    latest = start + _LONGEST_TURN * plan.slice_s
    while not side.over:
        side.follow(lambda: side.over, end_s=end)
        now = time.monotonic()
        done = sum(mark.end_s > start for mark in side.marks[-_LEAST_STEPS:])
        if now >= latest or done >= _LEAST_STEPS:
            break
        end = now + plan.slice_s / 2
    stopped = time.monotonic() if side.over else side.stop()
    return Stretch(start, stopped, max(0.0, side.cpu_s - cpu_before))


def pauses_are_rare(sides: Sequence[Sequence[float]]) -> bool:
    """Tell whether pauses, steps of over ten times the median's length, are left out of a duel.

    Examples are ends of epochs, checkpoints, garbage collection. Whether a turn holds a pause is
    chance and depends little on the configuration. Pauses are left out of both sides, but only
    where they are a small part of all steps: if every tenth step waits for its input, the waiting
    has to be measured.

    Args:
        sides: for each side the running times of its steps in seconds, without stops.
    """
    limits = [pause_limit(lengths) for lengths in sides]
    pauses = sum(
        length > limit for lengths, limit in zip(sides, limits, strict=True) for length in lengths
    )
    return 0 < pauses <= max(1, _RARE * sum(map(len, sides)))


def pause_limit(lengths: Sequence[float]) -> float:
    """Return the length above which a step is a pause, in seconds."""
    return _PAUSE * median(lengths) if len(lengths) >= _LEAST_MARKS else math.inf


class PlacedStep(NamedTuple):
    """A step, its running time, and how much of that counts in which turns."""

    mark: Mark
    length_s: float
    counts: tuple[tuple[int, float], ...]

    @property
    def step_s(self) -> float:
        """The step's running time; the mean of several steps if the mark stands for several."""
        return self.length_s / self.mark.steps


def place_steps(
    marks: Sequence[Mark], stretches: Sequence[Stretch], plan: DuelPlan
) -> list[PlacedStep]:
    """Assign a side's steps to its turns.

    A step that a stop interrupts counts in both turns by its parts: leaving such steps out would
    remove long steps more often than short ones.
    """
    placed = []
    first = 0
    for mark in marks:
        begin = mark.end_s - mark.length_s
        if begin < stretches[0].start_s:
            continue  # it began before the duel
        while first < len(stretches) and stretches[first].end_s <= begin:
            first += 1
        length, counts = 0.0, []
        for index in range(first, len(stretches)):
            stretch = stretches[index]
            if stretch.start_s >= mark.end_s:
                break
            length += min(stretch.end_s, mark.end_s) - max(stretch.start_s, begin)
            counts_from = max(stretch.start_s + plan.settle_s, begin)
            counted = min(stretch.end_s, mark.end_s) - counts_from
            if counted > 0:
                counts.append((index, counted))
        if length > 0:
            placed.append(PlacedStep(mark, length, tuple(counts)))
    return placed


def _turns(
    placed: Sequence[PlacedStep], stretches: Sequence[Stretch], origin: float, *, leave_out: bool
) -> list[Turn | None]:
    """Return the counted part of each of a side's turns; None where no step counts."""
    found: list[list[tuple[PlacedStep, float]]] = [[] for _ in stretches]
    limit = pause_limit([one.step_s for one in placed]) if leave_out else math.inf
    for one in placed:
        for index, counted in one.counts if one.step_s <= limit else ():
            found[index].append((one, counted))
    return [
        _turn_of(stretch, steps, origin) for stretch, steps in zip(stretches, found, strict=True)
    ]


def _turn_of(
    stretch: Stretch, found: Sequence[tuple[PlacedStep, float]], origin: float
) -> Turn | None:
    """Return a turn made of steps, each with the time of it that counts here."""
    if not found:
        return None
    shares = [(one.mark, counted / one.length_s) for one, counted in found]
    known = all(mark.samples is not None for mark, _ in shares)
    whole = [one.step_s for one, counted in found if counted > 0.999 * one.length_s]
    return Turn(
        start_s=stretch.start_s - origin,
        duration_s=sum(counted for _, counted in found),
        steps=sum(mark.steps * share for mark, share in shares),
        samples=sum((mark.samples or 0) * share for mark, share in shares) if known else None,
        step_s=tuple(whole or [one.step_s for one, _ in found])[:_MOST_TIMES],
        cpu_s=stretch.cpu_s,
        turn_s=stretch.end_s - stretch.start_s,
    )


def _rounds(reference: Sequence[Turn | None], candidate: Sequence[Turn | None]) -> list[Round]:
    pairs = zip(reference, candidate, strict=False)
    return [Round(reference=r, candidate=c) for r, c in pairs if r is not None and c is not None]
