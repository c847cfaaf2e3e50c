"""The target of tuning: script and specification, interpreter, machine, folder."""

import dataclasses
from pathlib import Path

from autotuner.knobs.knob import Build, Configuration
from autotuner.machine.host import Machine
from autotuner.options.study_spec import StepSource, StudySpec
from autotuner.study.space import Space
from autotuner.study.study_facts import StudyFacts
from autotuner.trial.request import TrialRequest, arguments_of, script_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What is tuned, and where.

    ``folder``: of the study's files. ``space``: the search space, if it is not made of the knobs'
    whole domains, as on a recorded surface, which covers only a part of them.
    """

    spec: StudySpec
    machine: Machine
    build: Build
    python: Path
    folder: Path
    space: Space | None = None

    def request(
        self, configuration: Configuration, measure_s: float, facts: StudyFacts | None
    ) -> TrialRequest:
        """Return the request for one process.

        Args:
            configuration: to apply; the empty one is TensorFlow's defaults.
            measure_s: longest measurement, in seconds.
            facts: of the study; they pin the step, so that all trials measure the same one. None:
                not known yet.
        """
        spec = self.spec
        return TrialRequest(
            script=script_of(spec),
            arguments=arguments_of(spec),
            python=self.python,
            working_directory=Path.cwd(),
            configuration=configuration,
            environment=spec.environment,
            source=spec.measure if facts is None else StepSource(facts.source),
            phase=spec.phase if facts is None else facts.pinned_phase,
            timing=dataclasses.replace(spec.timing, measure_s=measure_s),
        )

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial's files."""
        return self.folder / "trials" / f"{number:04d}"
