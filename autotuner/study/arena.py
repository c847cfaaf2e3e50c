"""Where trials meet the defaults: in duels with a process of the defaults that stays alive.

The arena keeps that process, the resident, warm and stopped, and starts another one when its script
has come to its end.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from autotuner.knobs.knob import Configuration
from autotuner.trial.duel import DuelPlan, Enough
from autotuner.trial.outcome import Outcome, Status, Window
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import Resident, Runner
from autotuner.trial.running import PhaseListener

_ATTEMPTS = 2

MakeRequest = Callable[[Configuration], TrialRequest]


class DuelImpossibleError(Exception):
    """Duels do not work with this script; the text says why, for the user."""


class Arena:
    """Runs duels. Leaving the context ends the resident."""

    def __init__(self, runner: Runner, make_request: MakeRequest, folder: Path) -> None:
        self._runner = runner
        self._make_request = make_request
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._resident: Resident | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """End the resident, if there is one; the next duel starts a fresh one."""
        self._resident = None
        self._stack.close()

    def _ready(self) -> Resident:
        if self._resident is not None and not self._resident.over:
            return self._resident
        self.dismiss()
        known = len(list(self._folder.glob("[0-9]*"))) if self._folder.is_dir() else 0
        folder = self._folder / f"{known + 1:04d}"
        context = self._runner.resident(self._make_request({}), folder)
        resident = self._stack.enter_context(context)
        if resident.failure is not None:
            reason = resident.failure.reason
            self.dismiss()
            raise DuelImpossibleError(f"a second process of the defaults did not start: {reason}")
        if resident.over:
            self.dismiss()
            raise DuelImpossibleError("the script comes to its end too soon for duels")
        self._resident = resident
        return resident

    def duel(
        self,
        configuration: Configuration,
        folder: Path,
        plan: DuelPlan,
        on_phase: PhaseListener,
        enough: Enough,
    ) -> Outcome:
        """Run a configuration against the resident.

        Raises:
            DuelImpossibleError: if no resident lasts long enough.
        """
        request = self._make_request(configuration)
        for _ in range(_ATTEMPTS):
            resident = self._ready()
            outcome = self._runner.duel(resident, request, folder, plan, on_phase, enough)
            cut_short = outcome.reference_ended and len(outcome.rounds) < plan.least_rounds
            if outcome.status is not Status.MEASURED or not cut_short:
                return outcome
        raise DuelImpossibleError("the script of the defaults ends before a duel is over")


def duel_pair(
    runner: Runner,
    first: TrialRequest,
    second: TrialRequest,
    folders: tuple[Path, Path],
    plan: DuelPlan,
    on_phase: PhaseListener,
    enough: Enough,
) -> tuple[Outcome, Outcome | None]:
    """Let two fresh processes meet, the first as the reference of the second.

    Returns:
        Outcomes of both; the second is None if the first did not get warm.
    """
    with runner.resident(first, folders[0], on_phase) as resident:
        if resident.failure is not None:
            return resident.failure, None
        met = runner.duel(resident, second, folders[1], plan, on_phase, enough)
        return _as_reference(resident.close(), met), met


def _as_reference(outcome: Outcome, met: Outcome) -> Outcome:
    """Return the reference's outcome with what it did in its turns: its own windows hold stops."""
    turns = [one.reference for one in met.rounds]
    windows = [
        Window(
            warmup=False,
            start_s=turn.start_s,
            duration_s=turn.duration_s,
            steps=turn.steps,
            samples=turn.samples,
        )
        for turn in turns
    ]
    running_s = sum(turn.turn_s for turn in turns)
    cost = dataclasses.replace(
        outcome.cost,
        cores_used=sum(turn.cpu_s for turn in turns) / running_s if running_s else None,
        others_cores=met.cost.others_cores,
    )
    return dataclasses.replace(
        outcome,
        windows=tuple(windows),
        step_s=tuple(step for turn in turns for step in turn.step_s),
        cost=cost,
    )
