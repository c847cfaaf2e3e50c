"""A runner without processes: a configuration's true speed with noise, on a simulated clock."""

import random
from collections.abc import Callable
from pathlib import Path

from autotuner.knobs.knob import Configuration
from autotuner.trial.outcome import Notice, Outcome, Phase, Status, Window
from autotuner.trial.request import TrialRequest

Speed = Callable[[Configuration], float | Status]


class SimulatedRunner:
    """Answers with windows around ``speed(configuration)``, or with the status it returns."""

    def __init__(
        self,
        speed: Speed,
        *,
        noise: float = 0.02,
        trial_s: float = 10.0,
        datasets: int = 0,
        notices: tuple[Notice, ...] = (),
    ) -> None:
        self._speed = speed
        self._noise = noise
        self._trial_s = trial_s
        self._datasets = datasets
        self._notices = notices
        self._random = random.Random(0)
        self.now = 0.0
        self.requests: list[TrialRequest] = []
        self.before_run: Callable[[int], None] = lambda count: None

    def monotonic(self) -> float:
        """Return simulated seconds."""
        return self.now

    def run(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: Callable[[Phase], None] = lambda phase: None,
    ) -> Outcome:
        """Answer a request."""
        self.before_run(len(self.requests))
        self.requests.append(request)
        self.now += self._trial_s
        on_phase(Phase.MEASURE)
        speed = self._speed(request.configuration)
        if isinstance(speed, Status):
            return Outcome(status=speed, folder=folder, reason="simulated", elapsed_s=self._trial_s)
        process = speed * self._random.gauss(1, self._noise)
        windows = tuple(
            Window(
                warmup=False,
                start_s=0.2 * k,
                duration_s=0.2 / self._random.gauss(1, self._noise),
                steps=max(1, round(process * 0.2)),
                samples=None,
            )
            for k in range(15)
        )
        return Outcome(
            status=Status.MEASURED,
            folder=folder,
            phase=Phase.EXIT,
            windows=windows,
            source="keras",
            step_phase="fit",
            complete=True,
            warm=True,
            notices=self._notices,
            facts={"datasets_built": self._datasets, "openmp": None, "keras": "3.15.1"},
            elapsed_s=self._trial_s,
        )
