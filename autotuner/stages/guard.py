"""The numerical guard: checks that the first steps compute the same as with the defaults."""

import dataclasses
from collections.abc import Callable

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import StepSource
from autotuner.stages.once import Once
from autotuner.stages.session import Session
from autotuner.study.record import configuration_key
from autotuner.trial.outcome import Outcome, Status
from autotuner.trial.request import RecordValues
from autotuner.verdict.numerics import NUMERICS, Numerics, judge_numerics, knobs_that_round

# these change the samples of an execution, so its values can't be compared
_OTHER_VALUES = ("batch_size", "steps_per_execution")
_SEED = 20_261_123


def guard_for(configuration: Configuration) -> Once[Numerics]:
    """Return the check of a configuration: the defaults twice, the configuration once."""
    about = configuration_key(configuration)

    def find_out(session: Session) -> Numerics:
        def run(name: str, values: Configuration) -> Outcome:
            target = session.target
            request = dataclasses.replace(
                target.request(values, target.spec.plan.measure_s, session.facts),
                source=StepSource.AUTO,
                phase=None,
                record_values=RecordValues(seed=_SEED),
            )
            return session.lab.run(request, target.folder / "numerics" / name)

        default = session.facts.space.default
        found = check_numerics(configuration, default, run)
        return dataclasses.replace(found, about=about)

    return Once(
        key=NUMERICS,
        find_out=find_out,
        holds=lambda numerics, records: numerics.about == about,
    )


def check_numerics(
    configuration: Configuration,
    default: Configuration,
    run: Callable[[str, Configuration], Outcome],
) -> Numerics:
    """Return whether a configuration computes the same as the defaults.

    Args:
        configuration: the one to check.
        default: TensorFlow's own.
        run: runs the first steps of the script with fixed seeds; takes a name and a configuration.
    """
    changing = knobs_that_round(configuration, default)
    if not changing:
        text = "the settings that differ can't change results, so nothing had to be compared"
        return Numerics(differs=False, text=text)
    alike = {k: v for k, v in configuration.items() if k not in _OTHER_VALUES}
    runs: list[Outcome] = []
    for name, values in (("default", {}), ("default-again", {}), ("best", alike)):
        outcome = run(name, values)
        if outcome.status is not Status.MEASURED or not outcome.values:
            reason = outcome.reason or "no step gave a value that can be compared"
            return Numerics(differs=None, text=f"results could not be compared: {reason}")
        runs.append(outcome)
    return judge_numerics(*(run.values for run in runs), changing=changing)
