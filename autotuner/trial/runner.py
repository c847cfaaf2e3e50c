"""Runs trials in real processes and returns their outcomes.

:class:`Runner` is the interface that the search uses; simulated machines and recorded trials
implement it as well.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import psutil

from autotuner.trial.classify import classify
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.duel import DuelPlan, DuelResult, Enough, run_duel
from autotuner.trial.fork_server import WarmParents
from autotuner.trial.live_trial import LiveTrial, PhaseListener, ignore_phase, start_trial
from autotuner.trial.outcome import Outcome, Phase, Status, Turn, Window
from autotuner.trial.request import TrialRequest

EnoughWindows = Callable[[Sequence[Window]], bool]
_UNLIMITED_S = 1e9
_FAULTS_OF_A_FORK = (Status.CRASHED, Status.TIMED_OUT)


def never(seen: Sequence[Any]) -> bool:
    """Measure until the time is up."""
    return False


class Reference(Protocol):
    """The reference of duels: a process that is warm and stopped."""

    @property
    def failure(self) -> Outcome | None:
        """The outcome if the process did not get warm; it can't be used then."""

    @property
    def over(self) -> bool:
        """Whether its script has ended, so that another reference is needed."""

    def close(self) -> Outcome:
        """End the process and return its outcome."""


class Runner(Protocol):
    """Anything that turns requests into outcomes."""

    def run(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: PhaseListener = ...,
        enough: EnoughWindows = ...,
    ) -> Outcome:
        """Run one trial alone and return its outcome."""

    def reference(
        self, request: TrialRequest, folder: Path, on_phase: PhaseListener = ...
    ) -> contextlib.AbstractContextManager[Reference]:
        """Start a process, warm it up and stop it."""

    def duel(
        self,
        reference: Reference,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: PhaseListener = ...,
        enough: Enough = ...,
    ) -> Outcome:
        """Run one trial in turns with a reference and return its outcome."""

    def pair(
        self,
        requests: tuple[TrialRequest, TrialRequest],
        folders: tuple[Path, Path],
        plan: DuelPlan,
        on_phase: PhaseListener = ...,
        enough: Enough = ...,
    ) -> tuple[Outcome, Outcome | None]:
        """Run a duel of two fresh processes; the first is the reference of the second.

        Returns:
            Both outcomes; the second is None if the first did not get warm.
        """


def default_memory_floor() -> int:
    """Return the available memory in bytes below which a trial is stopped: 2 % of the machine's."""
    return max(256 * 2**20, int(psutil.virtual_memory().total) // 50)


class ProcessReference:
    """A reference in a real process. The constructor returns when it is warm and stopped."""

    def __init__(self, trial: LiveTrial) -> None:
        self.trial = trial
        trial.follow(lambda: trial.over or trial.progress.phase is Phase.MEASURE)
        if not trial.over:
            trial.stop()
        self._failure: Outcome | None = None
        if trial.over and trial.progress.done is None:
            trial.run_to_end()
            self._failure = classify(trial)

    @property
    def failure(self) -> Outcome | None:
        """The outcome if the process did not get warm."""
        return self._failure

    @property
    def over(self) -> bool:
        """Whether its script has ended."""
        return self.trial.over

    def close(self) -> Outcome:
        """End the process and return its outcome."""
        if self._failure is not None:
            return self._failure
        _finish(self.trial)
        outcome = classify(self.trial)
        self.trial.close()
        return outcome


def _finish(trial: LiveTrial) -> None:
    if not trial.over:
        trial.ask_to_finish()
        trial.resume()
    trial.run_to_end()


class ProcessRunner:
    """Runs trials as processes of the user's interpreter.

    ``base_environment``: the user's environment when the tool started.
    ``memory_floor_bytes``: a trial is stopped when less memory than this is available.
    ``confinement``: the limits and the user of trials.
    """

    def __init__(
        self,
        base_environment: Mapping[str, str],
        *,
        memory_floor_bytes: int | None = None,
        confinement: Confinement = UNCONFINED,
    ) -> None:
        self._base = confinement.environment(base_environment)
        self._confinement = confinement
        self._warm_parents = WarmParents(self._base, confinement)
        self._memory_floor = (
            default_memory_floor() if memory_floor_bytes is None else memory_floor_bytes
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._warm_parents.close()

    def run(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: PhaseListener = ignore_phase,
        enough: EnoughWindows = never,
    ) -> Outcome:
        """Run one trial in ``folder`` and return its outcome.

        No process of the trial is left when this returns or raises, KeyboardInterrupt included.

        Args:
            enough: called after each measured window; True ends the measurement.

        Raises:
            UserError: if the folder can't be written or the interpreter can't be started.
        """
        outcome = self._run(request, folder, on_phase, enough)
        if not _fork_may_have_failed(outcome):
            return outcome
        again = self._run(_started(request), folder, on_phase, enough)
        return self._instead_of_fork(outcome, again)

    def _run(
        self, request: TrialRequest, folder: Path, on_phase: PhaseListener, enough: EnoughWindows
    ) -> Outcome:
        with self._start(request, folder, on_phase) as trial:
            windows_seen = 0

            def has_enough() -> bool:
                nonlocal windows_seen
                windows = trial.progress.measured
                if len(windows) == windows_seen:
                    return False
                windows_seen = len(windows)
                return enough(windows)

            trial.follow(lambda: trial.over or has_enough())
            if not trial.over:
                trial.ask_to_finish()
            trial.run_to_end()
        return classify(trial)

    @contextlib.contextmanager
    def reference(
        self, request: TrialRequest, folder: Path, on_phase: PhaseListener = ignore_phase
    ) -> Iterator[ProcessReference]:
        """Start a process, warm it up and stop it; leaving the context ends it."""
        # when memory gets short, the trial is stopped before its reference
        floor = self._memory_floor // 2
        with self._start(_endless(request), folder, on_phase, floor) as trial:
            yield ProcessReference(trial)

    def duel(
        self,
        reference: Reference,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: PhaseListener = ignore_phase,
        enough: Enough = never,
    ) -> Outcome:
        """Run one trial in turns with a reference; the outcome holds the turns of both sides.

        The trial warms up alone first. Raises like :meth:`run`.
        """
        assert isinstance(reference, ProcessReference)
        outcome = self._duel(reference, request, folder, plan, on_phase, enough)
        if not _fork_may_have_failed(outcome):
            return outcome
        again = self._duel(reference, _started(request), folder, plan, on_phase, enough)
        return self._instead_of_fork(outcome, again)

    def _duel(
        self,
        reference: ProcessReference,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: PhaseListener,
        enough: Enough,
    ) -> Outcome:
        with self._start(_endless(request), folder, on_phase) as trial:
            return _measure_duel(reference, trial, plan, enough)

    def pair(
        self,
        requests: tuple[TrialRequest, TrialRequest],
        folders: tuple[Path, Path],
        plan: DuelPlan,
        on_phase: PhaseListener = ignore_phase,
        enough: Enough = never,
    ) -> tuple[Outcome, Outcome | None]:
        """Run a duel of two fresh processes; the first is the reference of the second.

        Both import TensorFlow at the same time, because nothing is measured then. After its import
        the second is stopped until the first is warm. Raises like :meth:`run`.

        Returns:
            Both outcomes; the second is None if the first did not get warm.
        """
        first, second = (_endless(request) for request in requests)
        floor = self._memory_floor // 2
        with (
            self._start(first, folders[0], on_phase, floor) as starts_first,
            self._start(second, folders[1], on_phase) as candidate,
        ):
            candidate.hold_after_import()
            reference = ProcessReference(starts_first)
            if reference.failure is not None:
                return reference.failure, None
            candidate.release()
            other = _measure_duel(reference, candidate, plan, enough)
            turns = [one.reference for one in other.rounds]
            own = in_turns(reference.close(), turns, other.cost.others_cores)
        # the candidate's time already holds the duel and what the reference waited before it
        cost = dataclasses.replace(own.cost, stages={**own.cost.stages, "measure": 0.0})
        return dataclasses.replace(own, cost=cost), other

    def _instead_of_fork(self, forked: Outcome, started: Outcome) -> Outcome:
        """Return the outcome of a process that was started after a forked one failed.

        If the started one succeeds, the fork was the reason, and there are no more forks.
        """
        if started.status is not Status.MEASURED:
            return started
        why = f"a forked process failed where a started one did not: {forked.reason}"
        self._warm_parents.give_up(why)
        return dataclasses.replace(started, cold_reason=why)

    def _start(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: PhaseListener,
        memory_floor_bytes: int | None = None,
    ) -> contextlib.AbstractContextManager[LiveTrial]:
        return start_trial(
            request,
            folder,
            base_environment=self._base,
            memory_floor_bytes=memory_floor_bytes or self._memory_floor,
            on_phase=on_phase,
            warm_parents=self._warm_parents,
            confinement=self._confinement,
        )


def _fork_may_have_failed(outcome: Outcome) -> bool:
    return outcome.facts.forked and outcome.status in _FAULTS_OF_A_FORK


def _started(request: TrialRequest) -> TrialRequest:
    """Return a request for a process that is started, not forked."""
    return dataclasses.replace(request, warm_start=None)


def _measure_duel(
    reference: ProcessReference, trial: LiveTrial, plan: DuelPlan, enough: Enough
) -> Outcome:
    """Warm a process up, run its duel, end it, and return its outcome."""
    result = None
    trial.follow(lambda: trial.over or trial.progress.phase is Phase.MEASURE)
    if not trial.over:
        trial.stop()
        result = run_duel(reference.trial, trial, plan, enough)
        trial.renew_deadline()
        _finish(trial)
    else:
        trial.run_to_end()
    outcome = classify(trial)
    return outcome if result is None else _with_duel(outcome, result, reference.over)


def _endless(request: TrialRequest) -> TrialRequest:
    """Return a request for a measurement that lasts until the parent ends it."""
    return dataclasses.replace(
        request, timing=dataclasses.replace(request.timing, measure_s=_UNLIMITED_S)
    )


def in_turns(outcome: Outcome, turns: Sequence[Turn], others_cores: float | None) -> Outcome:
    """Return an outcome whose measured windows are the process's turns in a duel.

    The child's own windows contain the stops between turns.
    """
    windows = tuple(
        Window(
            warmup=False,
            start_s=turn.start_s,
            duration_s=turn.duration_s,
            steps=turn.steps,
            samples=turn.samples,
        )
        for turn in turns
    )
    running_s = sum(turn.turn_s for turn in turns)
    cost = dataclasses.replace(
        outcome.cost,
        cores_used=sum(turn.cpu_s for turn in turns) / running_s if running_s else None,
        others_cores=others_cores,
    )
    return dataclasses.replace(
        outcome,
        windows=(*(window for window in outcome.windows if window.warmup), *windows),
        step_s=tuple(step for turn in turns for step in turn.step_s),
        cost=cost,
    )


def _with_duel(outcome: Outcome, result: DuelResult, reference_ended: bool) -> Outcome:
    """Return a trial's outcome with the result of its duel."""
    turns = [one.candidate for one in result.rounds]
    return dataclasses.replace(
        in_turns(outcome, turns, result.others_cores),
        rounds=result.rounds,
        closing=result.closing,
        reference_ended=reference_ended,
        complete=outcome.status is Status.MEASURED,
    )
