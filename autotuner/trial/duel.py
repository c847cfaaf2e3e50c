"""A duel: two processes in turns, one stopped while the other runs.

What disturbs this machine for seconds or minutes then disturbs both. A turn's first moments, in
which caches and buffers come back, do not count. Steps are placed in turns by the time stamps of
their ends, which the child has taken.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

from autotuner.trial.outcome import Round, Turn
from autotuner.trial.running import Mark, RunningTrial, machine_cpu_s

_LEAST_STEPS = 3
_LONGEST_TURN = 8  # slices
_MOST_TIMES = 2000

Enough = Callable[[Sequence[Round]], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuelPlan:
    """How a duel goes, in seconds.

    A turn lasts ``slice_s``, or longer until it holds a few steps. Its first ``settle_s`` do not
    count. The duel ends after ``measure_s`` of counted time of the candidate, or earlier if
    somebody has seen enough, but not before ``least_rounds``.
    """

    slice_s: float = 0.3
    settle_s: float = 0.06
    measure_s: float = 3.0
    least_rounds: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuelResult:
    """What came of a duel; ``others_cores``: CPUs that all other processes used meanwhile."""

    rounds: tuple[Round, ...]
    closing: Turn | None
    others_cores: float | None


@dataclasses.dataclass(frozen=True)
class _Stretch:
    """When it was a side's turn, and the CPU time it took."""

    start_s: float
    end_s: float
    cpu_s: float


def run_duel(
    reference: RunningTrial, candidate: RunningTrial, plan: DuelPlan, enough: Enough
) -> DuelResult:
    """Let two stopped, warm processes take turns; both are stopped again, or over, afterwards."""
    origin, machine_before = time.monotonic(), machine_cpu_s()
    stretches: dict[RunningTrial, list[_Stretch]] = {reference: [], candidate: []}
    reference.forget_marks()
    reference.renew_deadline()

    def turn(side: RunningTrial) -> bool:
        stretch = _take_turn(side, plan)
        name = "candidate" if side is candidate else "reference"
        candidate.note("turn", side=name, **dataclasses.asdict(stretch))
        stretches[side].append(stretch)
        return not side.over

    def count(side: RunningTrial) -> list[Turn | None]:
        return _turns(side, stretches[side], plan, origin)

    while turn(reference) and turn(candidate):
        rounds = _rounds(count(reference), count(candidate))
        if len(rounds) < plan.least_rounds:
            continue
        counted = sum(one.candidate.duration_s for one in rounds)
        if counted >= plan.measure_s or enough(rounds):
            break
    if not reference.over and not candidate.over:
        turn(reference)
    turns = count(reference)
    rounds = _rounds(turns, count(candidate))
    closing = turns[len(stretches[candidate])] if len(turns) > len(stretches[candidate]) else None
    wall_s = time.monotonic() - origin
    own_s = sum(stretch.cpu_s for side in stretches.values() for stretch in side)
    others = max(0.0, machine_cpu_s() - machine_before - own_s) / wall_s
    return DuelResult(rounds=tuple(rounds), closing=closing, others_cores=others)


def _take_turn(side: RunningTrial, plan: DuelPlan) -> _Stretch:
    """Let one side run for a slice, or until it has done a few steps."""
    cpu_before = side.cpu_s
    start = side.go_on()
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
    return _Stretch(start, stopped, max(0.0, side.cpu_s - cpu_before))


def _turns(
    side: RunningTrial, stretches: Sequence[_Stretch], plan: DuelPlan, origin: float
) -> list[Turn | None]:
    """Return what counts of each of a side's turns; None where no step does.

    A step that is stopped in its middle counts in both turns by its parts: leaving such steps out
    would leave out the long ones more often than the short ones.
    """
    counted: list[list[tuple[Mark, float, float]]] = [[] for _ in stretches]
    first = 0
    for mark in side.marks:
        begin = mark.end_s - mark.length_s
        if begin < stretches[0].start_s:
            continue  # part of it was done before the duel
        while first < len(stretches) and stretches[first].end_s <= begin:
            first += 1
        parts = []
        for index in range(first, len(stretches)):
            stretch = stretches[index]
            if stretch.start_s >= mark.end_s:
                break
            ran = min(stretch.end_s, mark.end_s) - max(stretch.start_s, begin)
            counts_from = max(stretch.start_s + plan.settle_s, begin)
            counts = min(stretch.end_s, mark.end_s) - counts_from
            parts.append((index, ran, max(0.0, counts)))
        length = sum(ran for _, ran, _ in parts)
        for index, _, counts in parts:
            if counts > 0:
                counted[index].append((mark, length, counts))
    return [
        _turn_of(stretch, found, origin) for stretch, found in zip(stretches, counted, strict=True)
    ]


def _turn_of(
    stretch: _Stretch, found: Sequence[tuple[Mark, float, float]], origin: float
) -> Turn | None:
    """Return a turn of (mark, its running time, how much of that counts here)."""
    if not found:
        return None
    shares = [(mark, counts / length) for mark, length, counts in found]
    known = all(mark.samples is not None for mark, _ in shares)
    whole = [length / mark.steps for mark, length, counts in found if counts > 0.999 * length]
    return Turn(
        start_s=stretch.start_s - origin,
        duration_s=sum(counts for _, _, counts in found),
        steps=sum(mark.steps * share for mark, share in shares),
        samples=sum((mark.samples or 0) * share for mark, share in shares) if known else None,
        step_s=tuple(whole or [length / mark.steps for mark, length, _ in found])[:_MOST_TIMES],
        cpu_s=stretch.cpu_s,
        turn_s=stretch.end_s - stretch.start_s,
    )


def _rounds(reference: Sequence[Turn | None], candidate: Sequence[Turn | None]) -> list[Round]:
    pairs = zip(reference, candidate, strict=False)
    return [Round(reference=r, candidate=c) for r, c in pairs if r is not None and c is not None]
