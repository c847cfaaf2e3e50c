"""Where configurations meet: in duels where that works, else one process after the other.

For duels with the defaults the arena keeps one process of them, the resident, warm and stopped, and
starts another one when its script has come to its end.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import Pairing, StepSource
from autotuner.statistics.comparison import Comparison, Metric
from autotuner.study.noise import Method, Noise
from autotuner.study.record import StudyFacts, TrialRecord
from autotuner.study.watch import Watch
from autotuner.trial.duel import DuelPlan, Enough
from autotuner.trial.outcome import Outcome, Phase, Status
from autotuner.trial.request import Feed, TrialRequest, WarmStart
from autotuner.trial.runner import Reference, Runner

_ATTEMPTS = 2
_SLICE_S, _SLICE_STEPS, _LONGEST_SLICE_S = 0.3, 4, 2.0
_LONGEST_STEP_S = 1.0
_MEMORY_SPARE = 1.2

MakeRequest = Callable[[Configuration, float], TrialRequest]


class Heard(Protocol):
    """Whoever hears what goes on in the arena."""

    def phase_entered(self, phase: Phase) -> None:
        """Hear what the current trial is doing."""

    def remark(self, text: str) -> None:
        """Hear something that the user should know, in a sentence."""


class DuelImpossibleError(Exception):
    """Duels do not work with this script; the text says why, for the user."""


class Arena:
    """Lets configurations meet. Whoever has one dismisses its resident in the end.

    ``method``: how; ``why``: why not in duels, if not; ``slice_s``: length of a turn.
    """

    def __init__(
        self,
        runner: Runner,
        make_request: MakeRequest,
        folder: Path,
        heard: Heard,
        monotonic: Callable[[], float],
    ) -> None:
        self._runner = runner
        self._make_request = make_request
        self._folder = folder
        self._heard = heard
        self._monotonic = monotonic
        self._starting_s = 0.0
        self._stack = contextlib.ExitStack()
        self._resident: Reference | None = None
        self.method = Method.SEQUENTIAL
        self.why = ""
        self.slice_s = _SLICE_S

    def restore(self, noise: Noise) -> None:
        """Go on as an earlier noise check has settled it."""
        self.method, self.why, self.slice_s = noise.method, noise.why, noise.slice_s

    def choose_method(
        self,
        asked: Pairing,
        facts: StudyFacts,
        *,
        step_s: float,
        peak_bytes: float,
        memory_bytes: float,
    ) -> None:
        """Settle on duels where they can work, else say why they can't.

        Args:
            asked: what the user wants.
            facts: of the study.
            step_s: median length of a step.
            peak_bytes: greatest memory that a process of the defaults had.
            memory_bytes: the machine's memory, or what a container may use of it.
        """
        self.slice_s = min(_LONGEST_SLICE_S, max(_SLICE_S, _SLICE_STEPS * step_s))
        room = min(psutil.virtual_memory().available, memory_bytes) - peak_bytes
        if asked is Pairing.SEQUENTIAL:
            self.why = "it was asked for"
        elif facts.source == StepSource.PROCESS.value:
            self.why = "the script is timed as a whole"
        elif any(notice.kind == "short" for notice in facts.notices):
            self.why = "the script is too short for duels"
        elif step_s > _LONGEST_STEP_S:
            self.why = f"steps of {step_s:.1f} s are longer than a turn can be"
        elif room < _MEMORY_SPARE * peak_bytes:
            self.why = "memory does not hold two processes of the script"
        else:
            self.method, self.why = Method.DUEL, ""

    def give_up_duels(self, why: str) -> None:
        """Go on sequentially, and tell the user why."""
        self.method, self.why = Method.SEQUENTIAL, why
        self.dismiss()
        self._heard.remark(f"no duels with this script from here on: {why}")

    def take_starting_s(self) -> float:
        """Return what it has taken to start residents since this was last asked, in seconds."""
        taken, self._starting_s = self._starting_s, 0.0
        return taken

    def dismiss(self) -> None:
        """End the resident, if there is one; the next duel starts a fresh one."""
        self._resident = None
        self._stack.close()

    def against_defaults(
        self,
        configuration: Configuration,
        folder: Path,
        measure_s: float,
        watch: Watch,
        control: TrialRecord,
        feed: Feed = Feed.REAL,
        warm_start: WarmStart | None = None,
    ) -> tuple[Outcome, Comparison | None]:
        """Run a configuration against the resident, or by itself against a control before it."""
        if self.method is Method.DUEL:
            request = dataclasses.replace(
                self._make_request(configuration, measure_s), feed=feed, warm_start=warm_start
            )
            try:
                outcome = self._duel(request, folder, measure_s, watch.rounds)
            except DuelImpossibleError as error:
                self.give_up_duels(str(error))
            else:
                return outcome, watch.metric.compare_duel(outcome)
        watch.reference = control.throughput.value if control.throughput else None
        outcome = self.alone(configuration, folder, measure_s, watch, feed, warm_start)
        score = watch.metric.score(outcome)
        return outcome, watch.metric.compare_scores(score, control.score)

    def alone(
        self,
        configuration: Configuration,
        folder: Path,
        measure_s: float,
        watch: Watch,
        feed: Feed,
        warm_start: WarmStart | None = None,
    ) -> Outcome:
        """Run a configuration by itself, with nothing beside it."""
        self.dismiss()
        request = dataclasses.replace(
            self._make_request(configuration, measure_s), feed=feed, warm_start=warm_start
        )
        return self._runner.run(request, folder, self._heard.phase_entered, watch.windows)

    def meet(
        self,
        order: Sequence[Configuration],
        folders: tuple[Path, Path],
        measure_s: float,
        metric: Metric,
    ) -> tuple[Outcome, Outcome | None, Comparison | None]:
        """Let two configurations meet in fresh processes.

        Returns:
            Both outcomes, the second None if the first did not get warm, and how the second
            compares with the first.
        """
        self.dismiss()
        requests = [self._make_request(side, measure_s) for side in order]
        heard = self._heard.phase_entered
        if self.method is Method.DUEL:
            plan = self._plan(measure_s)
            first, second = self._runner.pair((requests[0], requests[1]), folders, plan, heard)
            comparison = None if second is None else metric.compare_duel(second)
            too_brief = comparison is None and second is not None and _measured(first, second)
            if not too_brief:
                return first, second, comparison
            self.give_up_duels("a process ended before its duel was over")
        first = self._runner.run(requests[0], folders[0], heard)
        second = self._runner.run(requests[1], folders[1], heard)
        scores = (metric.score(second), metric.score(first))
        return first, second, metric.compare_scores(*scores)

    def _plan(self, measure_s: float) -> DuelPlan:
        return DuelPlan(slice_s=self.slice_s, measure_s=measure_s)

    def _ready(self, measure_s: float) -> Reference:
        if self._resident is not None and not self._resident.over:
            return self._resident
        self.dismiss()
        known = len(list(self._folder.glob("[0-9]*"))) if self._folder.is_dir() else 0
        folder = self._folder / f"{known + 1:04d}"
        before = self._monotonic()
        context = self._runner.reference(self._make_request({}, measure_s), folder)
        resident = self._stack.enter_context(context)
        self._starting_s += self._monotonic() - before
        if resident.failure is not None:
            reason = resident.failure.reason
            self.dismiss()
            raise DuelImpossibleError(f"a second process of the defaults did not start: {reason}")
        if resident.over:
            self.dismiss()
            raise DuelImpossibleError("the script comes to its end too soon for duels")
        self._resident = resident
        return resident

    def _duel(
        self, request: TrialRequest, folder: Path, measure_s: float, enough: Enough
    ) -> Outcome:
        """Run a configuration against the resident.

        Raises:
            DuelImpossibleError: if no resident lasts long enough.
        """
        plan = self._plan(measure_s)
        heard = self._heard.phase_entered
        for _ in range(_ATTEMPTS):
            resident = self._ready(measure_s)
            outcome = self._runner.duel(resident, request, folder, plan, heard, enough)
            cut_short = outcome.reference_ended and len(outcome.rounds) < plan.least_rounds
            if outcome.status is not Status.MEASURED or not cut_short:
                return outcome
        raise DuelImpossibleError("the script of the defaults ends before a duel is over")


def _measured(*outcomes: Outcome) -> bool:
    return all(outcome.status is Status.MEASURED for outcome in outcomes)
