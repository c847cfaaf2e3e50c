"""A runner without processes: a configuration's true speed with noise, on a simulated clock."""

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autotuner.knobs.knob import Configuration
from autotuner.trial.duel import DuelPlan
from autotuner.trial.outcome import Cost, Notice, Outcome, Phase, Round, Status, Turn, Window
from autotuner.trial.request import TrialRequest
from autotuner.trial.runner import Resident
from autotuner.trial.running import ignore_phase

Speed = Callable[[Configuration], float | Status]
Deviations = Callable[[random.Random], Iterator[float]]
_TURN_S = 0.25


class SimulatedResident:
    """A resident with a speed of its own; its script ends after so many duels."""

    def __init__(self, outcome: Outcome, speed: float, duels: float) -> None:
        self.outcome = outcome
        self.speed = speed
        self.duels_left = duels

    @property
    def failure(self) -> Outcome | None:
        """How it ended, if it did not get warm."""
        return None if self.outcome.status is Status.MEASURED else self.outcome

    @property
    def over(self) -> bool:
        """Whether its script has come to its end."""
        return self.duels_left <= 0

    def close(self) -> Outcome:
        """Return how it ended."""
        return self.outcome


def normal(deviation: float) -> Deviations:
    """Return independent normal deviations."""

    def draw(generator: random.Random) -> Iterator[float]:
        while True:
            yield generator.gauss(0, deviation)

    return draw


class SimulatedRunner:
    """Answers with windows around ``speed(configuration)``, or with the status it returns.

    ``process``: how the logarithm of a process's speed deviates, a standard deviation or a source
    of deviations; ``noise``: the same of the windows or turns of one process. ``drift``: the
    machine's speed over time. ``resident_duels``: how many duels a resident lives. ``others``: CPUs
    that other processes use, by time. ``first``: speed of a resident, as a part of what it would be
    alone. ``log``: what each process prints, into a real file in its folder.
    """

    def __init__(
        self,
        speed: Speed,
        *,
        process: float | Deviations = 0.01,
        noise: float | Deviations = 0.02,
        trial_s: float = 10.0,
        inspection: Mapping[str, Any] | None = None,
        notices: tuple[Notice, ...] = (),
        drift: Callable[[float], float] = lambda now: 1.0,
        others: Callable[[float], float] = lambda now: 0.0,
        resident_duels: float = math.inf,
        source: str = "keras",
        complete: bool = True,
        step_s: float = 0.01,
        peak_bytes: Callable[[Configuration], int] = lambda configuration: 2**28,
        numerics: Callable[[Configuration], Sequence[Sequence[float]]] = lambda c: [[0.5]] * 5,
        rounds: int | None = None,
        first: float = 1.0,
        log: str | None = None,
        seed: object = 0,
    ) -> None:
        self._speed = speed
        self._noise = normal(noise) if isinstance(noise, float) else noise
        self._trial_s = trial_s
        self._inspection = inspection or {}
        self._notices = notices
        self._drift = drift
        self._others = others
        self._resident_duels = resident_duels
        self._source = source
        self._complete = complete
        self._step_s = step_s
        self._peak_bytes = peak_bytes
        self._numerics = numerics
        self._rounds = rounds
        self._first = first
        self._log = log
        self._random = random.Random(str(seed))
        self._processes = (normal(process) if isinstance(process, float) else process)(self._random)
        self.now = 0.0
        self.requests: list[TrialRequest] = []
        self.duels = 0
        self.before_run: Callable[[int], None] = lambda count: None

    def monotonic(self) -> float:
        """Return simulated seconds."""
        return self.now

    def _process_factor(self) -> float:
        return math.exp(next(self._processes))

    def _begin(self, request: TrialRequest, folder: Path) -> None:
        if self._log is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "output.log").write_text(self._log, encoding="utf-8")
        self.before_run(len(self.requests))
        self.requests.append(request)
        self.now += self._trial_s

    def _outcome(
        self, request: TrialRequest, folder: Path, windows: tuple[Window, ...], **fields: object
    ) -> Outcome:
        numerics: tuple[tuple[float, ...], ...] = ()
        if request.numerics is not None:
            numerics = tuple(tuple(v) for v in self._numerics(request.configuration))
        speed = self._speed(request.configuration)
        step_s = self._step_s * 100 / speed if not isinstance(speed, Status) else 0.0
        return Outcome(
            status=Status.MEASURED,
            folder=folder,
            phase=Phase.EXIT,
            windows=windows,
            step_s=(step_s,) * 10,
            source=self._source,
            step_phase="fit",
            complete=self._complete,
            warm=True,
            notices=self._notices,
            numerics=numerics,
            cost=Cost(cores_used=1.5, others_cores=self._others(self.now)),
            facts={
                "inspection": self._inspection,
                "openmp": None,
                "keras": "3.15.1",
                "peak_rss_bytes": self._peak_bytes(request.configuration),
            },
            elapsed_s=self._trial_s,
            **fields,  # type: ignore[arg-type]
        )

    def _failed(self, status: Status, folder: Path) -> Outcome:
        return Outcome(
            status=status,
            folder=folder,
            reason="simulated",
            last_lines=tuple((self._log or "").splitlines()),
            elapsed_s=self._trial_s,
        )

    def run(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: Callable[[Phase], None] = ignore_phase,
        enough: Callable[[Sequence[Window]], bool] = lambda windows: False,
    ) -> Outcome:
        """Answer a request."""
        if request.inspect:
            self.now += self._trial_s
            speed = self._speed({})
            if isinstance(speed, Status):
                return self._failed(speed, folder)
            return self._outcome(request, folder, ())
        self._begin(request, folder)
        on_phase(Phase.MEASURE)
        speed = self._speed(request.configuration)
        if isinstance(speed, Status):
            return self._failed(speed, folder)
        level = speed * self._process_factor() * self._drift(self.now)
        windows: list[Window] = []
        deviations = self._noise(self._random)
        while len(windows) < 15 and not enough(windows):
            rate = level * math.exp(next(deviations))
            windows.append(_window(len(windows) * 0.2, 0.2, rate))
        return self._outcome(request, folder, tuple(windows))

    @contextlib.contextmanager
    def resident(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: Callable[[Phase], None] = ignore_phase,
    ) -> Iterator[SimulatedResident]:
        """Start a resident."""
        self._begin(request, folder)
        folder.mkdir(parents=True, exist_ok=True)
        speed = self._speed(request.configuration)
        if isinstance(speed, Status):
            yield SimulatedResident(self._failed(speed, folder), 0.0, 0)
            return
        outcome = self._outcome(request, folder, (_window(0.0, 0.2, speed),))
        own = speed * self._process_factor() * self._first
        yield SimulatedResident(outcome, own, self._resident_duels)

    def duel(
        self,
        resident: Resident,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: Callable[[Phase], None] = ignore_phase,
        enough: Callable[[Sequence[Round]], bool] = lambda rounds: False,
    ) -> Outcome:
        """Let a request meet a resident."""
        assert isinstance(resident, SimulatedResident)
        self._begin(request, folder)
        self.duels += 1
        on_phase(Phase.MEASURE)
        speed = self._speed(request.configuration)
        if isinstance(speed, Status):
            return self._failed(speed, folder)
        resident.duels_left -= 1
        cut = resident.duels_left < 0
        levels = (resident.speed, speed * self._process_factor())
        deviations = (self._noise(self._random), self._noise(self._random))
        rounds: list[Round] = []
        most = self._rounds or round(plan.measure_s / _TURN_S)
        while len(rounds) < most and not cut:
            start = len(rounds) * 2 * _TURN_S
            drift = self._drift(self.now)
            turns = [
                _turn(start, level * drift * math.exp(next(deviation)))
                for level, deviation in zip(levels, deviations, strict=True)
            ]
            rounds.append(Round(reference=turns[0], candidate=turns[1]))
            if len(rounds) >= plan.least_rounds and enough(rounds):
                break
        windows = tuple(
            _window(r.candidate.start_s, _TURN_S, r.candidate.steps / _TURN_S) for r in rounds
        )
        return self._outcome(
            request, folder, windows, rounds=tuple(rounds), reference_ended=resident.over
        )


def _window(start_s: float, duration_s: float, rate: float) -> Window:
    return Window(
        warmup=False,
        start_s=start_s,
        duration_s=duration_s,
        steps=rate * duration_s,
        samples=None,
    )


def _turn(start_s: float, rate: float) -> Turn:
    return Turn(
        start_s=start_s,
        duration_s=_TURN_S,
        steps=rate * _TURN_S,
        samples=None,
        step_s=(1 / rate,) * 10,
        cpu_s=1.5 * _TURN_S,
        turn_s=_TURN_S,
    )
