"""What is tuned: the script with its specification, the interpreter, the machine, the folder."""

import dataclasses
from pathlib import Path

from autotuner.knobs.knob import Build, Configuration
from autotuner.machine.host import Machine
from autotuner.options.study_spec import StepSource, StudySpec
from autotuner.study.facts import StudyFacts
from autotuner.study.space import Space
from autotuner.trial.request import TrialRequest, arguments_of, script_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What is tuned, and where.

    ``folder``: of the study's files. ``space``: what is searched, where it is not the whole domains
    of the knobs: a recorded surface has a part of them only.
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
            configuration: what is set; the empty one is TensorFlow's defaults.
            measure_s: longest measurement, in seconds.
            facts: of the study: all trials measure the same step, even where another would be found
                first. None: not known yet.
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
