"""Processes that a warm parent forks: TensorFlow is imported once for many tests.

test_warm.py shows on real TensorFlow that forked processes are like started ones. A started one
takes five seconds, so only tests whose subject is how a process starts have one.
"""

import dataclasses
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import TrialRequest, WarmStart
from autotuner.trial.runner import ProcessRunner, Reference

WARM = WarmStart(modules=("tensorflow", "keras"), start_timeout_s=120)
ForkedCommand = Callable[..., "subprocess.CompletedProcess[str]"]
"""What the fixture ``autotune_forked`` returns."""


class ForkingRunner:
    """A runner that forks every process, also those that a command would start.

    ``not_forked``: processes that were started nevertheless, with the reasons.
    """

    def __init__(self, runner: ProcessRunner) -> None:
        self._runner = runner
        self.not_forked: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Keep the warm parents for the next test."""

    def run(self, request: TrialRequest, folder: Path, *further: Any) -> Outcome:
        return self._checked(self._runner.run(_forked(request), folder, *further))

    def reference(
        self, request: TrialRequest, folder: Path, *further: Any
    ) -> AbstractContextManager[Reference]:
        return self._runner.reference(_forked(request), folder, *further)

    def duel(
        self, reference: Reference, request: TrialRequest, folder: Path, *further: Any
    ) -> Outcome:
        return self._checked(self._runner.duel(reference, _forked(request), folder, *further))

    def pair(
        self,
        requests: tuple[TrialRequest, TrialRequest],
        folders: tuple[Path, Path],
        *further: Any,
    ) -> tuple[Outcome, Outcome | None]:
        forked = (_forked(requests[0]), _forked(requests[1]))
        first, second = self._runner.pair(forked, folders, *further)
        return self._checked(first), None if second is None else self._checked(second)

    def _checked(self, outcome: Outcome) -> Outcome:
        # one that fails is started again, to see whether it failed because it was forked
        if outcome.status is Status.MEASURED and not outcome.facts.forked:
            self.not_forked.append(f"{outcome.folder}: {outcome.cold_reason}")
        return outcome


def _forked(request: TrialRequest) -> TrialRequest:
    return dataclasses.replace(request, warm_start=WARM)
