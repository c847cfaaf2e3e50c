"""A runner without processes: true speeds of configurations with noise, on a simulated clock."""

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autotuner.codec import from_json
from autotuner.knobs.knob import Configuration
from autotuner.knobs.liveness import Evidence
from autotuner.trial.duel import DuelPlan
from autotuner.trial.live_trial import ignore_phase
from autotuner.trial.outcome import (
    Cost,
    Notice,
    Outcome,
    Phase,
    Round,
    ScriptFacts,
    Status,
    Turn,
    Window,
)
from autotuner.trial.request import Feed, TrialRequest
from autotuner.trial.runner import Reference, in_turns

Speed = Callable[[Configuration], float | Status]
Deviations = Callable[[random.Random], Iterator[float]]


class SimulatedReference:
    """A reference with its own speed; its script ends after a number of duels."""

    def __init__(self, outcome: Outcome, speed: float, duels: float) -> None:
        self.outcome = outcome
        self.speed = speed
        self.duels_left = duels

    @property
    def failure(self) -> Outcome | None:
        """Its outcome, if it did not get warm."""
        return None if self.outcome.status is Status.MEASURED else self.outcome

    @property
    def over(self) -> bool:
        """Whether its script has ended."""
        return self.duels_left <= 0

    def close(self) -> Outcome:
        """Return its outcome."""
        return self.outcome


def normal(deviation: float) -> Deviations:
    """Return independent normal deviations."""

    def draw(generator: random.Random) -> Iterator[float]:
        while True:
            yield generator.gauss(0, deviation)

    return draw


@dataclasses.dataclass(eq=False)
class SimulatedRunner:
    """Answers with windows around ``speed(configuration)``, or with the status it returns.

    ``process``: how the logarithm of a process's speed deviates, a standard deviation or a source
    of deviations; ``noise``: the same for the windows or turns of one process. ``drift``: the
    machine's speed over time. ``reference_duels``: the number of duels until a reference ends.
    ``others``: CPUs that other processes use, by time. ``first``: the speed of a reference, as a
    fraction of its speed alone. ``log``: the output of each process, written to a real file in its
    folder. ``trial_s``: the duration of a trial, or a function of its request that returns the
    duration without the measurement. ``imported``: the modules for a warm parent to import.
    """

    speed: Speed
    _: dataclasses.KW_ONLY
    process: float | Deviations = 0.01
    noise: float | Deviations = 0.02
    trial_s: float | Callable[[TrialRequest], float] = 10.0
    turn_s: float = 0.25
    fed: Mapping[Feed, float] = dataclasses.field(default_factory=dict)
    inspection: Mapping[str, Any] | None = None
    notices: tuple[Notice, ...] = ()
    drift: Callable[[float], float] = lambda now: 1.0
    others: Callable[[float], float] = lambda now: 0.0
    reference_duels: float = math.inf
    source: str = "keras"
    complete: bool = True
    step_s: float = 0.01
    peak_bytes: Callable[[Configuration], int] = lambda configuration: 2**28
    numerics: Callable[[Configuration], Sequence[Sequence[float]]] = lambda c: [[0.5]] * 5
    rounds: int | None = None
    windows: int = 15
    first: float = 1.0
    log: str | None = None
    imported: Sequence[str] = ()
    import_s: float = 0.0
    seed: object = 0

    def __post_init__(self) -> None:
        """Begin at time zero."""
        self._noise = normal(self.noise) if isinstance(self.noise, float) else self.noise
        process = normal(self.process) if isinstance(self.process, float) else self.process
        self._random = random.Random(str(self.seed))
        self._processes = process(self._random)
        self._evidence: Evidence = from_json(Evidence, self.inspection or {})
        self.now = self._began = 0.0
        self.requests: list[TrialRequest] = []
        self.duels = 0
        self.before_run: Callable[[int], None] = lambda count: None

    def monotonic(self) -> float:
        """Return simulated seconds."""
        return self.now

    def _start_process(self, request: TrialRequest) -> None:
        self._began = self.now
        self.now += self.trial_s(request) if callable(self.trial_s) else self.trial_s

    def _measure_for(self, seconds: float) -> None:
        if callable(self.trial_s):
            self.now += seconds

    def deviations(self, request: TrialRequest) -> tuple[Iterator[float], Iterator[float]]:
        """Return how the turns of a reference and of a candidate deviate, as logarithms."""
        return self._noise(self._random), self._noise(self._random)

    def alone(self, request: TrialRequest) -> Iterator[float]:
        """Return how the windows of a process that runs alone deviate, as logarithms."""
        return self._noise(self._random)

    def _process_factor(self) -> float:
        return math.exp(next(self._processes))

    def _reference_factor(self) -> float:
        return self._process_factor()

    def _begin(self, request: TrialRequest, folder: Path) -> None:
        if self.log is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "output.log").write_text(self.log, encoding="utf-8")
        self.before_run(len(self.requests))
        self.requests.append(request)
        self._start_process(request)

    def _outcome(
        self, request: TrialRequest, folder: Path, windows: tuple[Window, ...], **fields: object
    ) -> Outcome:
        values: tuple[tuple[float, ...], ...] = ()
        if request.record_values is not None:
            values = tuple(tuple(v) for v in self.numerics(request.configuration))
        speed = self.speed(request.configuration)
        step_s = self.step_s * 100 / speed if not isinstance(speed, Status) else 0.0
        return Outcome(
            status=Status.MEASURED,
            folder=folder,
            phase=Phase.EXIT,
            windows=windows,
            step_s=(step_s,) * 10,
            source=self.source,
            step_phase="fit",
            complete=self.complete,
            warm=True,
            notices=(*self.notices, *_fed_notices(request.feed)),
            values=values,
            cost=Cost(cores_used=1.5, others_cores=self.others(self.now)),
            facts=ScriptFacts(
                inspection=self._evidence,
                forked=request.warm_start is not None,
                imported=tuple(self.imported),
                keras="3.15.1",
                peak_rss_bytes=self.peak_bytes(request.configuration),
            ),
            elapsed_s=self.now - self._began,
            **fields,  # type: ignore[arg-type]
        )

    def _failed(self, status: Status, folder: Path) -> Outcome:
        return Outcome(
            status=status,
            folder=folder,
            reason="simulated",
            last_lines=tuple((self.log or "").splitlines()),
            elapsed_s=self.now - self._began,
        )

    def run(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: Callable[[Phase], None] = ignore_phase,
        enough: Callable[[Sequence[Window]], bool] = lambda windows: False,
    ) -> Outcome:
        """Return the outcome of a request."""
        if request.inspect:
            self._start_process(request)
            speed = self.speed({})
            if isinstance(speed, Status):
                return self._failed(speed, folder)
            return self._outcome(request, folder, ())
        self._begin(request, folder)
        on_phase(Phase.MEASURE)
        speed = self.speed(request.configuration)
        if isinstance(speed, Status):
            return self._failed(speed, folder)
        level = speed * self._process_factor() * self.drift(self.now)
        windows: list[Window] = []
        deviations = self.alone(request)
        while len(windows) < self.windows and not enough(windows):
            rate = level * math.exp(next(deviations))
            windows.append(_window(len(windows) * 0.2, 0.2, rate))
        self._measure_for(sum(window.duration_s for window in windows))
        return self._outcome(request, folder, tuple(windows))

    @contextlib.contextmanager
    def reference(
        self,
        request: TrialRequest,
        folder: Path,
        on_phase: Callable[[Phase], None] = ignore_phase,
    ) -> Iterator[SimulatedReference]:
        """Start a reference."""
        self._begin(request, folder)
        folder.mkdir(parents=True, exist_ok=True)
        speed = self.speed(request.configuration)
        if isinstance(speed, Status):
            yield SimulatedReference(self._failed(speed, folder), 0.0, 0)
            return
        outcome = self._outcome(request, folder, (_window(0.0, 0.2, speed),))
        own = speed * self._reference_factor() * self.first
        yield SimulatedReference(outcome, own, self.reference_duels)

    def duel(
        self,
        reference: Reference,
        request: TrialRequest,
        folder: Path,
        plan: DuelPlan,
        on_phase: Callable[[Phase], None] = ignore_phase,
        enough: Callable[[Sequence[Round]], bool] = lambda rounds: False,
    ) -> Outcome:
        """Run a duel with a reference."""
        assert isinstance(reference, SimulatedReference)
        self._begin(request, folder)
        self.duels += 1
        on_phase(Phase.MEASURE)
        speed = self.speed(request.configuration)
        if isinstance(speed, Status):
            return self._failed(speed, folder)
        reference.duels_left -= 1
        cut = reference.duels_left < 0
        fed = self.fed.get(request.feed, 1.0)
        levels = (reference.speed, speed * fed * self._process_factor())
        deviations = self.deviations(request)
        rounds: list[Round] = []
        counted_s = self.turn_s - plan.settle_s
        most = self.rounds or max(plan.least_rounds, math.ceil(plan.measure_s / counted_s))
        while len(rounds) < most and not cut:
            start = len(rounds) * 2 * self.turn_s
            drift = self.drift(self.now)
            turns = [
                _turn(start, self.turn_s, level * drift * math.exp(next(deviation)))
                for level, deviation in zip(levels, deviations, strict=True)
            ]
            rounds.append(Round(reference=turns[0], candidate=turns[1]))
            if len(rounds) >= plan.least_rounds and enough(rounds):
                break
        turns = [one.candidate for one in rounds]
        windows = tuple(_window(t.start_s, t.duration_s, t.steps / t.duration_s) for t in turns)
        self._measure_for(2 * self.turn_s * len(rounds))
        return self._outcome(
            request, folder, windows, rounds=tuple(rounds), reference_ended=reference.over
        )

    def pair(
        self,
        requests: tuple[TrialRequest, TrialRequest],
        folders: tuple[Path, Path],
        plan: DuelPlan,
        on_phase: Callable[[Phase], None] = ignore_phase,
        enough: Callable[[Sequence[Round]], bool] = lambda rounds: False,
    ) -> tuple[Outcome, Outcome | None]:
        """Run a duel of two requests in fresh processes."""
        began = self.now
        with self.reference(requests[0], folders[0], on_phase) as reference:
            if reference.failure is not None:
                return reference.failure, None
            self.now = max(began, self.now - self.import_s)
            met = self.duel(reference, requests[1], folders[1], plan, on_phase, enough)
            turns = [one.reference for one in met.rounds]
            first = in_turns(reference.close(), turns, met.cost.others_cores)
            return dataclasses.replace(first, elapsed_s=self.now - began), met


def _fed_notices(feed: Feed) -> tuple[Notice, ...]:
    """Return the notices of a child that has replaced the elements of a dataset."""
    kind = f"fed_{feed.value}"
    return () if feed is Feed.REAL else (Notice(kind=kind, where="?", text="simulated"),)


def _window(start_s: float, duration_s: float, rate: float) -> Window:
    return Window(
        warmup=False,
        start_s=start_s,
        duration_s=duration_s,
        steps=rate * duration_s,
        samples=None,
    )


def _turn(start_s: float, duration_s: float, rate: float) -> Turn:
    return Turn(
        start_s=start_s,
        duration_s=duration_s,
        steps=rate * duration_s,
        samples=None,
        step_s=(1 / rate,) * 10,
        cpu_s=1.5 * duration_s,
        turn_s=duration_s,
    )
