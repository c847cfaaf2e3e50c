"""Runs trials in real processes and says how they ended.

:class:`Runner` is the interface that the search knows; a replay of recorded trials can stand behind
it as well.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psutil

from autotuner.trial.classify import classify
from autotuner.trial.confinement import UNCONFINED, Confinement
from autotuner.trial.duel import DuelPlan, DuelResult, Enough, run_duel
from autotuner.trial.fork_server import WarmParents
from autotuner.trial.live_trial import LiveTrial, PhaseListener, ignore_phase
from autotuner.trial.outcome import Outcome, Phase, Status, Turn, Window
from autotuner.trial.request import TrialRequest

EnoughWindows = Callable[[Sequence[Window]], bool]
_UNLIMITED_S = 1e9
_FAULTS_OF_A_FORK = (Status.CRASHED, Status.TIMED_OUT)


def never(seen: Sequence[Any]) -> bool:
    """Never have seen enough before the time is up."""
    return False


class Resident(Protocol):
    """A process that is warm and stopped, to be the reference of duels."""

    @property
    def failure(self) -> Outcome | None:
        """How it ended, if it did not get warm; it can't be used then."""

    @property
    def over(self) -> bool:
        """Whether its script has come to its end, so that another one is needed."""

    def close(self) -> Outcome:
        """End it and return how it ended."""


class Runner(Protocol):
    """Whatever can answer requests with outcomes."""

    @property
    def why_cold(self) -> str:
        """Why no more processes are forked by warm parents, once that is so."""

    def run(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: PhaseListener = ...,
        enough: EnoughWindows = ...,
    ) -> Outcome:
        """Run one trial by itself and return how it ended."""

    def resident(
        self, request: TrialRequest, folder: Path, on_phase: PhaseListener = ...
    ) -> contextlib.AbstractContextManager[Resident]:
        """Start a process, warm it up and stop it."""

    def duel(
        self,
        resident: Resident,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: PhaseListener = ...,
        enough: Enough = ...,
    ) -> Outcome:
        """Run one trial in turns with a resident and return how it ended."""

    def pair(
        self,
        requests: tuple[TrialRequest, TrialRequest],
        folders: tuple[Path, Path],
        plan: DuelPlan,
        on_phase: PhaseListener = ...,
        enough: Enough = ...,
    ) -> tuple[Outcome, Outcome | None]:
        """Let two fresh processes meet, the first as the reference of the second.

        Returns:
            Outcomes of both; the second is None if the first did not get warm.
        """


def default_memory_floor() -> int:
    """Return the available memory in bytes below which a trial is stopped: 2 % of the machine's."""
    return max(256 * 2**20, int(psutil.virtual_memory().total) // 50)


class ProcessResident:
    """A resident in a real process."""

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
        """How it ended, if it did not get warm."""
        return self._failure

    @property
    def over(self) -> bool:
        """Whether its script has come to its end."""
        return self.trial.over

    def close(self) -> Outcome:
        """End it and return how it ended."""
        if self._failure is not None:
            return self._failure
        _finish(self.trial)
        outcome = classify(self.trial)
        self.trial.close()
        return outcome


def _finish(trial: LiveTrial) -> None:
    if not trial.over:
        trial.ask_to_finish()
        trial.go_on()
    trial.run_to_end()


class ProcessRunner:
    """Runs trials as processes of the user's interpreter.

    ``base_environment`` is the user's environment as it was when the tool started.
    ``memory_floor_bytes``: a trial is stopped when less than this is available on the machine.
    ``confinement``: what trials may use, and as whom they run.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._warm_parents.close()

    @property
    def why_cold(self) -> str:
        """Why no more processes are forked by warm parents, once that is so."""
        return self._warm_parents.why_not

    def run(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: PhaseListener = ignore_phase,
        enough: EnoughWindows = never,
    ) -> Outcome:
        """Run one trial in ``folder`` and return how it ended.

        Whatever happens, also an exception such as KeyboardInterrupt, no process of the trial is
        left when this returns.

        Args:
            enough: asked after each measured window whether the measurement may end.

        Raises:
            UserError: if the folder can't be written or the interpreter can't be started.
        """
        return self._cold_if_need_be(
            request, lambda asked: self._run(asked, folder, on_phase, enough)
        )

    def _run(
        self, request: TrialRequest, folder: Path, on_phase: PhaseListener, enough: EnoughWindows
    ) -> Outcome:
        with self._start(request, folder, on_phase) as trial:
            asked_at = 0

            def has_enough() -> bool:
                nonlocal asked_at
                windows = trial.progress.measured
                if len(windows) == asked_at:
                    return False
                asked_at = len(windows)
                return enough(windows)

            trial.follow(lambda: trial.over or has_enough())
            if not trial.over:
                trial.ask_to_finish()
            trial.run_to_end()
        return classify(trial)

    @contextlib.contextmanager
    def resident(
        self, request: TrialRequest, folder: Path, on_phase: PhaseListener = ignore_phase
    ) -> Iterator[ProcessResident]:
        """Start a process, warm it up and stop it; it is gone when the context is left."""
        # of two processes the one that runs is to go first when memory gets short
        floor = self._memory_floor // 2
        with self._start(_endless(request), folder, on_phase, floor) as trial:
            yield ProcessResident(trial)

    def duel(
        self,
        resident: Resident,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: PhaseListener = ignore_phase,
        enough: Enough = never,
    ) -> Outcome:
        """Run one trial in turns with a resident; both sides' raw turns are in the outcome.

        The trial warms up alone first. Raises like :meth:`run`.
        """
        assert isinstance(resident, ProcessResident)
        return self._cold_if_need_be(
            request, lambda asked: self._duel(resident, asked, folder, plan, on_phase, enough)
        )

    def _duel(
        self,
        resident: ProcessResident,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: PhaseListener,
        enough: Enough,
    ) -> Outcome:
        with self._start(_endless(request), folder, on_phase) as trial:
            return _meet(resident, trial, plan, enough)

    def pair(
        self,
        requests: tuple[TrialRequest, TrialRequest],
        folders: tuple[Path, Path],
        plan: DuelPlan,
        on_phase: PhaseListener = ignore_phase,
        enough: Enough = never,
    ) -> tuple[Outcome, Outcome | None]:
        """Let two fresh processes meet, the first as the reference of the second.

        Both import TensorFlow at the same time, as nothing is measured then; the second is stopped
        after that until the first is warm. Raises like :meth:`run`.

        Returns:
            Outcomes of both; the second is None if the first did not get warm.
        """
        first, second = (_endless(request) for request in requests)
        floor = self._memory_floor // 2
        with (
            self._start(first, folders[0], on_phase, floor) as reference,
            self._start(second, folders[1], on_phase) as candidate,
        ):
            candidate.hold_after_import()
            resident = ProcessResident(reference)
            if resident.failure is not None:
                return resident.failure, None
            candidate.release()
            met = _meet(resident, candidate, plan, enough)
            turns = [one.reference for one in met.rounds]
            own = in_turns(resident.close(), turns, met.cost.others_cores)
        # the duel is in the other side's time already, and so is what this one has waited before it
        cost = dataclasses.replace(own.cost, stages={**own.cost.stages, "measure": 0.0})
        return dataclasses.replace(own, cost=cost), met

    def _cold_if_need_be(
        self, request: TrialRequest, attempt: Callable[[TrialRequest], Outcome]
    ) -> Outcome:
        """Repeat a forked process that fails by one that is started: the fork may be the reason.

        If it was, there are no more forks.
        """
        outcome = attempt(request)
        if not outcome.facts.get("forked") or outcome.status not in _FAULTS_OF_A_FORK:
            return outcome
        again = attempt(dataclasses.replace(request, warm_start=None))
        if again.status is Status.MEASURED:
            self._warm_parents.give_up(
                f"a forked process failed where a started one did not: {outcome.reason}"
            )
        return again

    def _start(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: PhaseListener,
        memory_floor_bytes: int | None = None,
    ) -> LiveTrial:
        return LiveTrial(
            request,
            folder,
            base_environment=self._base,
            memory_floor_bytes=memory_floor_bytes or self._memory_floor,
            on_phase=on_phase,
            warm_parents=self._warm_parents,
            confinement=self._confinement,
        )


def _meet(resident: ProcessResident, trial: LiveTrial, plan: DuelPlan, enough: Enough) -> Outcome:
    """Let a process get warm, run its duel, end it, and return how it ended."""
    result = None
    trial.follow(lambda: trial.over or trial.progress.phase is Phase.MEASURE)
    if not trial.over:
        trial.stop()
        result = run_duel(resident.trial, trial, plan, enough)
        trial.renew_deadline()
        _finish(trial)
    else:
        trial.run_to_end()
    outcome = classify(trial)
    return outcome if result is None else _with_rounds(outcome, result, resident.over)


def _endless(request: TrialRequest) -> TrialRequest:
    """Return a request whose measurement lasts until the parent ends it."""
    return dataclasses.replace(
        request, timing=dataclasses.replace(request.timing, measure_s=_UNLIMITED_S)
    )


def in_turns(outcome: Outcome, turns: Sequence[Turn], others_cores: float | None) -> Outcome:
    """Return an outcome with what its process did in its turns: its own windows hold stops."""
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


def _with_rounds(outcome: Outcome, result: DuelResult, reference_ended: bool) -> Outcome:
    """Return a trial's outcome with what its duel has shown."""
    turns = [one.candidate for one in result.rounds]
    return dataclasses.replace(
        in_turns(outcome, turns, result.others_cores),
        rounds=result.rounds,
        closing=result.closing,
        reference_ended=reference_ended,
        complete=outcome.status is Status.MEASURED,
    )
