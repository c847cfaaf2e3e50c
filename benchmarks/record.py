"""Record a surface: every configuration of a grid, for real, in duels with the defaults.

The order is random. Of each block one resident process of the defaults is the reference, and meets
another process of the defaults as well, the control. A duel during which other processes used the
CPU comes again. Where a recording is cut off it is gone on with; with ``--repeat`` the
configurations that look best are measured again in further processes, so that the truth is known
best where the optimum lies.

    python -m benchmarks.record SURFACE [--minutes M] [--repeat N] [--python PATH]
"""

import argparse
import dataclasses
import datetime
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from autotuner.knobs.catalogue import default_configuration, recipe_configuration
from autotuner.knobs.knob import Build, Configuration, KnobValue
from autotuner.machine.host import inspect_machine
from autotuner.machine.lock import hold_machine
from autotuner.options.study_spec import Objective, StepSource
from autotuner.options.workloads import load_workload
from autotuner.statistics.comparison import Comparison, compare_rounds
from autotuner.statistics.throughput import Unit, summarize
from autotuner.study.diagnosis import Diagnosis, diagnose
from autotuner.study.record import configuration_key
from autotuner.testing.surface import FOLDER, Duel, Provenance, as_line, read_duels, read_provenance
from autotuner.trial.duel import DuelPlan
from autotuner.trial.outcome import Outcome, Status, Turn
from autotuner.trial.probe import inspect_script, probe
from autotuner.trial.request import Feed, TrialRequest
from autotuner.trial.runner import ProcessRunner, Reference
from benchmarks.warm import WARM, besides, request_of

_BLOCK = 8
_DISTURBING_CORES = 0.3
_MEASURE_S = 1.5
_FORKS = 5
_SEED = 20_261_124


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a surface is of."""

    workload: str
    axes: Mapping[str, Sequence[KnobValue]]


_THREADS = {"intra_op": (1, 2), "inter_op": (1, 2)}
_KERNELS = {
    "onednn": ("0", "1"),
    "onednn_isa": ("DEFAULT", "AVX2", "AVX512_CORE"),
    "onednn_keep_primitives": ("0", "1"),
}
_STEPS = {"steps_per_execution": ("as_written", "2", "4", "8", "16", "32")}
SURFACES = {
    "image_input": Plan(
        "image_input",
        {
            **_THREADS,
            "map_parallelism": ("as_written", "2", "4", "8", "AUTOTUNE"),
            "prefetch_depth": ("as_written", "0", "1", "4", "AUTOTUNE"),
            "data_autotune": ("as_written", "0"),
        },
    ),
    "cnn_train": Plan("cnn_train", {**_THREADS, **_KERNELS, **_STEPS}),
    "mlp_train": Plan(
        "mlp_train",
        {
            **_THREADS,
            "data_autotune": ("as_written", "0", "1"),
            "data_cpu_budget": ("as_written", "1", "2"),
            **_STEPS,
        },
    ),
    "cnn_train_intel": Plan(
        "cnn_train",
        {
            **_THREADS,
            "onednn": ("0", "1"),
            "omp_num_threads": (1, 2),
            "kmp_blocktime": ("0", "1", "20", "200", "infinite"),
            "kmp_affinity": ("none", "granularity=fine,compact,1,0"),
            "data_autotune": ("as_written", "0"),
        },
    ),
}


class Recorder:
    """Records one surface into one file."""

    def __init__(self, name: str, python: Path, folder: Path) -> None:
        self.path = FOLDER / f"{name}.jsonl"
        self._folder = folder
        self._runner = ProcessRunner(dict(os.environ))
        plan = SURFACES[name]
        spec = load_workload(plan.workload)
        request = request_of(plan.workload, python, _MEASURE_S)
        self._request = dataclasses.replace(request, script=_endless(request.script, folder))
        FOLDER.mkdir(exist_ok=True)
        if not self.path.exists():
            build = probe(spec, python=python, folder=folder / "probe", runner=self._runner)
            self.path.write_text(as_line(self._begin(name, plan, build)), encoding="utf-8")
        self.provenance = read_provenance(self.path)
        self._request = dataclasses.replace(
            self._request,
            source=StepSource(self.provenance.source),
            phase=self.provenance.phase or None,
        )
        self._duel = DuelPlan(slice_s=self.provenance.slice_s, measure_s=_MEASURE_S)
        self._began = time.monotonic() - max((one.at_s for one in self.duels()), default=0.0)

    def _begin(self, name: str, plan: Plan, build: Build) -> Provenance:
        outcome = self._runner.run(self._request, self._folder / "default")
        assert outcome.status is Status.MEASURED, outcome.reason
        throughput = summarize(outcome, count_samples=True)
        assert throughput is not None
        machine, names = inspect_machine(), tuple(plan.axes)
        step_s = median(outcome.step_s)
        pinned = dataclasses.replace(
            self._request,
            source=StepSource(outcome.source or "auto"),
            phase=outcome.step_phase or None,
        )
        slice_s = min(2.0, max(0.3, 4 * step_s))
        before = time.monotonic()
        diagnosis = self._diagnose(pinned, DuelPlan(slice_s=slice_s, measure_s=_MEASURE_S))
        diagnosis_s = round(time.monotonic() - before, 1)
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            check=True,
            capture_output=True,
            text=True,
            cwd=FOLDER,
        )
        return Provenance(
            name=name,
            workload=plan.workload,
            axes=plan.axes,
            default=default_configuration(names, machine=machine, build=build),
            recipe=recipe_configuration(names, machine=machine, build=build),
            machine=dataclasses.asdict(machine),
            build=dataclasses.asdict(build),
            source=pinned.source.value,
            phase=pinned.phase or "",
            unit=throughput.unit.value,
            step_s=step_s,
            slice_s=slice_s,
            measure_s=_MEASURE_S,
            diagnosis=dataclasses.asdict(diagnosis),
            diagnosis_s=diagnosis_s,
            saved_s=round(self._saved_s(pinned), 2),
            seed=_SEED,
            begun=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            commit=commit.stdout.strip(),
        )

    def _saved_s(self, request: TrialRequest) -> float:
        """Return what a forked process of the defaults takes less than a started one."""
        took: dict[bool, list[float]] = {True: [], False: []}
        with ProcessRunner(dict(os.environ)) as runner:
            for number in range(1 + _FORKS):
                for warm in (False, True):
                    asked = dataclasses.replace(request, warm_start=WARM if warm else None)
                    outcome = runner.run(asked, self._folder / "saved")
                    assert outcome.status is Status.MEASURED, outcome.reason
                    assert outcome.facts.forked is warm, outcome.cold_reason
                    if number:  # the first fork has the parent's import in it
                        took[warm].append(besides(outcome))
        return median(took[False]) - median(took[True])

    def _diagnose(self, request: TrialRequest, plan: DuelPlan) -> Diagnosis:
        """Find out what holds a step up, as the tuner does."""
        _, evidence = inspect_script(request, self._folder / "inspection", self._runner)
        found: list[Comparison | None] = []
        with self._runner.reference(request, self._folder / "resident") as reference:
            for feed in (Feed.CACHED, Feed.SINGLE):
                outcome = self._runner.duel(
                    reference,
                    dataclasses.replace(request, feed=feed),
                    self._folder / feed.value,
                    plan,
                )
                done = any(notice.kind == f"fed_{feed.value}" for notice in outcome.notices)
                steps = compare_rounds(
                    outcome.rounds, outcome.closing, Objective.THROUGHPUT, Unit.STEPS
                )
                found.append(steps if done and outcome.status is Status.MEASURED else None)
        return diagnose(found[0], found[1], evidence)

    def duels(self) -> list[Duel]:
        """Return what has been recorded so far."""
        return list(read_duels(self.path))

    def missing(self) -> list[Configuration]:
        """Return the configurations that have not been recorded, in a random order."""
        done = {one.key for one in self.duels()}
        grid = self.provenance.grid()
        random.Random(self.provenance.seed).shuffle(grid)
        return [one for one in grid if configuration_key(one) not in done]

    def to_repeat(self, processes: int) -> list[Configuration]:
        """Return the best third so far, where they have been in fewer processes than that."""
        gains: dict[str, list[float]] = {}
        for one in self.duels():
            if one.candidate and one.configuration:
                ratios = [c / r for r, c in zip(one.reference, one.candidate, strict=True)]
                gains.setdefault(one.key, []).append(median(ratios))
        best = sorted(gains, key=lambda key: -median(gains[key]))[: len(gains) // 3]
        points = {configuration_key(one): one for one in self.provenance.grid()}
        found = [points[key] for key in best if len(gains[key]) < processes]
        random.Random(len(self.duels())).shuffle(found)
        return found

    def record(self, points: Sequence[Configuration], end_s: float) -> None:
        """Record configurations until the time (monotonic seconds) is up."""
        left = list(points)
        while left and time.monotonic() < end_s:
            resident = 1 + max((one.resident for one in self.duels()), default=0)
            with self._runner.reference(self._request, self._folder / "resident") as reference:
                assert reference.failure is None, reference.failure
                for one in self._block(reference, resident, [{}, *left[:_BLOCK]], end_s):
                    with self.path.open("a", encoding="utf-8") as file:
                        file.write(as_line(one))
                    left = left[bool(one.configuration) :]
            print(f"{self.provenance.name}: {len(left)} left", flush=True)

    def _block(
        self,
        reference: Reference,
        number: int,
        points: Sequence[Configuration],
        end_s: float,
    ) -> Iterator[Duel]:
        for point in points:
            if reference.over or time.monotonic() >= end_s:
                return
            before = time.monotonic()
            request = dataclasses.replace(self._request, configuration=point)
            outcome = self._runner.duel(reference, request, self._folder / "trial", self._duel)
            if outcome.reference_ended:
                return  # its rounds are too few; it comes again
            if (outcome.cost.others_cores or 0.0) > _DISTURBING_CORES:
                print(f"disturbed by {outcome.cost.others_cores:.2f} CPUs: comes again", flush=True)
                return
            yield self._as_duel(outcome, point, number, before)

    def _as_duel(
        self, outcome: Outcome, point: Configuration, resident: int, before: float
    ) -> Duel:
        turns = [turn for one in outcome.rounds for turn in (one.reference, one.candidate)]
        turns += [outcome.closing] if outcome.closing else []
        duel_s = turns[-1].start_s + turns[-1].turn_s if turns else 0.0
        return Duel(
            configuration=point,
            resident=resident,
            at_s=round(before - self._began, 1),
            status=outcome.status,
            reason=outcome.reason,
            ready_s=round(time.monotonic() - before - duel_s, 2),
            warmup_s=round(outcome.cost.warmup_s or 0.0, 2),
            reference=tuple(self._rate(one.reference) for one in outcome.rounds),
            candidate=tuple(self._rate(one.candidate) for one in outcome.rounds),
            others=round(outcome.cost.others_cores or 0.0, 3),
        )

    def _rate(self, turn: Turn) -> float:
        samples = self.provenance.unit == Unit.SAMPLES.value and turn.samples is not None
        done = turn.samples if samples and turn.samples is not None else turn.steps
        return float(f"{done / turn.duration_s:.5g}")


def _endless(script: Path, folder: Path) -> Path:
    """Return a copy of a workload that does not end: residents last, and nothing else differs."""
    text, found = re.subn(r"epochs=\d+, verbose", "epochs=1_000_000, verbose", script.read_text())
    assert found == 1
    copy = folder / script.name
    copy.write_text(text)
    return copy


def main() -> None:
    """Record one surface, or go on with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("surface", choices=SURFACES)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--repeat", type=int, default=3, help="processes of the best third")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    given = parser.parse_args()
    end_s = time.monotonic() + 60 * given.minutes
    with (
        tempfile.TemporaryDirectory() as folder,
        hold_machine(f"record {given.surface}", wait=False, report=print),
    ):
        recorder = Recorder(given.surface, given.python.absolute(), Path(folder))
        recorder.record(recorder.missing(), end_s)
        for processes in range(2, given.repeat + 1):
            recorder.record(recorder.to_repeat(processes), end_s)


if __name__ == "__main__":
    main()
