"""Measuring configurations: in duels where they work, else one process after the other.

The lab owns the reference: one process of the defaults, kept warm and stopped, with which trials
take turns. A new reference starts when the script of the last one has ended. The returned value
holds everything that a measurement has shown.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from autotuner.options.study_spec import Pairing, StepSource
from autotuner.statistics.comparison import Comparison, Metric
from autotuner.study.assess import EarlyStop, Seen
from autotuner.study.noise import SLICE_S, Design, Method
from autotuner.study.record import TrialRecord
from autotuner.study.study_facts import StudyFacts
from autotuner.trial.duel import DuelPlan
from autotuner.trial.live_trial import PhaseListener
from autotuner.trial.outcome import Outcome, Round, Status, Window
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import Reference, Runner

_ATTEMPTS = 2
_SLICE_STEPS, _LONGEST_SLICE_S = 4, 2.0
_LONGEST_STEP_S = 1.0
_MEMORY_SPARE = 1.2


class DuelImpossibleError(Exception):
    """Duels do not work with this script; the message gives the user the reason.

    ``starting_s``: the time spent on starting references, in seconds.
    """

    def __init__(self, why: str, starting_s: float) -> None:
        super().__init__(why)
        self.starting_s = starting_s


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What the lab has measured of one configuration.

    ``comparison``: with the defaults; None if there is none. ``design``: the design that was used,
    which differs from the requested one after duels were given up. ``abandoned``: ended early as
    clearly slower. ``reference_start_s``: the time spent on starting references, in seconds.
    """

    outcome: Outcome
    comparison: Comparison | None
    design: Design
    abandoned: bool = False
    reference_start_s: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredPair:
    """Two configurations in fresh processes, in the order in which these started.

    ``second`` is None if the first process did not get warm. ``comparison``: of the second over the
    first.
    """

    first: Outcome
    second: Outcome | None
    comparison: Comparison | None
    design: Design


def choose_design(
    asked: Pairing, facts: StudyFacts, *, step_s: float, peak_bytes: float, room_bytes: float
) -> Design:
    """Return a design with duels where they can work, else one with the reason against them.

    Args:
        asked: the user's choice.
        facts: of the study.
        step_s: median length of a step.
        peak_bytes: peak memory of a process of the defaults.
        room_bytes: memory available to a second process.
    """
    slice_s = min(_LONGEST_SLICE_S, max(SLICE_S, _SLICE_STEPS * step_s))
    why = ""
    if asked is Pairing.SEQUENTIAL:
        why = "as requested"
    elif facts.source == StepSource.PROCESS.value:
        why = "the script is timed as a whole"
    elif any(notice.kind == "short" for notice in facts.notices):
        why = "the script is too short for duels"
    elif step_s > _LONGEST_STEP_S:
        why = f"steps of {step_s:.1f} s are longer than a turn can be"
    elif room_bytes < _MEMORY_SPARE * peak_bytes:
        why = "memory does not hold two processes of the script"
    return Design(method=Method.SEQUENTIAL if why else Method.DUEL, why=why, slice_s=slice_s)


class Lab:
    """Measures configurations. Leaving the context ends the reference.

    Args:
        runner: runs processes.
        folder: of the references' files.
        on_phase: called with each phase that a measured process enters.
        monotonic: returns the time now, in seconds.
    """

    def __init__(
        self,
        runner: Runner,
        folder: Path,
        on_phase: PhaseListener,
        monotonic: Callable[[], float],
    ) -> None:
        self._runner = runner
        self._folder = folder
        self._on_phase = on_phase
        self._monotonic = monotonic
        self._stack = contextlib.ExitStack()
        self._reference: Reference | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """End the reference, if there is one; the next duel starts a fresh one."""
        self._reference = None
        self._stack.close()

    def run(self, request: TrialRequest, folder: Path) -> Outcome:
        """Run a process alone, to the end of its measurement."""
        self.dismiss()
        return self._runner.run(request, folder, self._on_phase)

    def compare(
        self,
        request: TrialRequest,
        defaults: TrialRequest,
        folder: Path,
        design: Design,
        stop: EarlyStop,
        control: TrialRecord,
    ) -> Measured:
        """Measure a configuration against the defaults.

        Args:
            request: of the configuration.
            defaults: of the reference.
            folder: of the process's files.
            design: how to compare.
            stop: when to end the measurement early.
            control: the latest trial of the defaults, for a process that is measured alone.
        """
        starting_s = 0.0
        if design.method is Method.DUEL:
            try:
                return self._duel(request, defaults, folder, design, stop)
            except DuelImpossibleError as error:
                starting_s = error.starting_s
                design = dataclasses.replace(design, method=Method.SEQUENTIAL, why=str(error))
        measured = self._alone(request, folder, design, stop, control)
        return dataclasses.replace(measured, reference_start_s=starting_s)

    def _alone(
        self,
        request: TrialRequest,
        folder: Path,
        design: Design,
        stop: EarlyStop,
        control: TrialRecord,
    ) -> Measured:
        """Measure a configuration alone and compare it with the control before it."""
        self.dismiss()
        rate = None if control.throughput is None else control.throughput.value
        seen = Seen.TOO_LITTLE

        def enough(windows: Sequence[Window]) -> bool:
            nonlocal seen
            seen = stop.look_at_windows(windows, rate)
            return seen is not Seen.TOO_LITTLE

        outcome = self._runner.run(request, folder, self._on_phase, enough)
        comparison = stop.metric.compare_scores(stop.metric.score(outcome), control.score)
        return Measured(
            outcome=outcome,
            comparison=comparison,
            design=design,
            abandoned=seen is Seen.SLOWER,
        )

    def _duel(
        self,
        request: TrialRequest,
        defaults: TrialRequest,
        folder: Path,
        design: Design,
        stop: EarlyStop,
    ) -> Measured:
        """Measure a configuration in turns with the reference.

        Raises:
            DuelImpossibleError: if no reference lasts long enough.
        """
        plan = DuelPlan(slice_s=design.slice_s, measure_s=request.timing.measure_s)
        seen, starting_s = Seen.TOO_LITTLE, 0.0

        def enough(rounds: Sequence[Round]) -> bool:
            nonlocal seen
            seen = stop.look_at_duel(rounds)
            return seen is not Seen.TOO_LITTLE

        for _ in range(_ATTEMPTS):
            reference, took_s = self._ready(defaults, starting_s)
            starting_s += took_s
            outcome = self._runner.duel(reference, request, folder, plan, self._on_phase, enough)
            cut_short = outcome.reference_ended and len(outcome.rounds) < plan.least_rounds
            if outcome.status is not Status.MEASURED or not cut_short:
                return Measured(
                    outcome=outcome,
                    comparison=stop.metric.compare_duel(outcome),
                    design=design,
                    abandoned=seen is Seen.SLOWER,
                    reference_start_s=starting_s,
                )
        raise DuelImpossibleError(
            "the script of the defaults ends before a duel is over", starting_s
        )

    def _ready(self, defaults: TrialRequest, spent_s: float) -> tuple[Reference, float]:
        """Return the reference, warm and stopped, and the seconds that starting it took.

        Args:
            defaults: the request for a new reference, if the last one has ended.
            spent_s: the time spent on starting earlier references, in seconds.

        Raises:
            DuelImpossibleError: if the reference does not start, or ends at once.
        """
        if self._reference is not None and not self._reference.over:
            return self._reference, 0.0
        self.dismiss()
        known = len(list(self._folder.glob("[0-9]*"))) if self._folder.is_dir() else 0
        began = self._monotonic()
        context = self._runner.reference(defaults, self._folder / f"{known + 1:04d}")
        reference = self._stack.enter_context(context)
        took_s = self._monotonic() - began
        why = "the script ends too soon for duels" if reference.over else ""
        if reference.failure is not None:
            why = f"a second process of the defaults did not start: {reference.failure.reason}"
        if why:
            self.dismiss()
            raise DuelImpossibleError(why, spent_s + took_s)
        self._reference = reference
        return reference, took_s

    def pair(
        self,
        requests: tuple[TrialRequest, TrialRequest],
        folders: tuple[Path, Path],
        design: Design,
        metric: Metric,
    ) -> MeasuredPair:
        """Measure two configurations against each other in fresh processes."""
        self.dismiss()
        if design.method is Method.DUEL:
            plan = DuelPlan(slice_s=design.slice_s, measure_s=requests[0].timing.measure_s)
            first, second = self._runner.pair(requests, folders, plan, self._on_phase)
            comparison = None if second is None else metric.compare_duel(second)
            sides = (first, second)
            both = all(one is not None and one.status is Status.MEASURED for one in sides)
            if comparison is not None or not both:
                return MeasuredPair(
                    first=first, second=second, comparison=comparison, design=design
                )
            why = "a process ended before its duel was over"
            design = dataclasses.replace(design, method=Method.SEQUENTIAL, why=why)
        first = self._runner.run(requests[0], folders[0], self._on_phase)
        second = self._runner.run(requests[1], folders[1], self._on_phase)
        comparison = metric.compare_scores(metric.score(second), metric.score(first))
        return MeasuredPair(first=first, second=second, comparison=comparison, design=design)


def flipped(comparison: Comparison | None) -> Comparison | None:
    """Return the first side's comparison, given the second's."""
    if comparison is None:
        return None
    low, high = comparison.high, comparison.low
    return dataclasses.replace(
        comparison,
        gain=1 / comparison.gain,
        low=None if low is None else 1 / low,
        high=None if high is None else 1 / high,
    )
