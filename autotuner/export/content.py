"""What every exported file says, whatever its format."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime

import optuna

from autotuner import __version__
from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.knobs.knob import AS_WRITTEN, Configuration, Means
from autotuner.study.bulk import AnyTrial
from autotuner.study.elapsed import time_spent_s
from autotuner.study.facts import StudyFacts
from autotuner.study.record import TrialRecord, configuration_key, read_records
from autotuner.trial.outcome import Notice
from autotuner.verdict.decision import Decision
from autotuner.verdict.payback import Payback, payback
from autotuner.verdict.sentences import further_sentences, sentence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """A recommended configuration and where it comes from."""

    study: str
    created: datetime
    version: str
    facts: StudyFacts
    decision: Decision
    notices: tuple[Notice, ...]
    tuning_s: float = 0.0

    @property
    def sentence(self) -> str:
        """Return the result in one sentence."""
        return sentence(self.decision, self.facts.objective)

    @property
    def payback(self) -> Payback | None:
        """Return when tuning has paid, where something was gained."""
        finding = self.decision.finding
        if finding is None or not self.decision.is_recommended:
            return None
        return payback(self.tuning_s, finding.ratio)

    @property
    def configuration(self) -> Configuration:
        """Return the values to deploy, every one explicit."""
        return self.decision.deployed.configuration

    def provenance(self) -> list[str]:
        """Return lines that say what was measured, on what, and with which result."""
        identity, build = self.facts.identity, self.facts.build
        # the arguments themselves may hold what does not belong into a deployed file
        count = len(identity.arguments)
        arguments = f" (with {count} arguments, see the study)" if count else ""
        return [
            f"model: {identity.model}{arguments}",
            f"model's SHA-256: {identity.model_sha256}",
            f"machine: {identity.machine}",
            f"versions: TensorFlow {build.tensorflow}, keras {build.keras or '-'}, "
            f"Python {build.python}, autotune {self.version}",
            f"study: {self.study}, exported {self.created:%Y-%m-%d %H:%M}",
            f"result: {self.sentence}",
            *further_sentences(self.decision, self.payback),
            "these are " + self._content(),
        ]

    def _content(self) -> str:
        if not self.decision.deploys_best:
            return "TensorFlow's defaults, written out"
        return "the settings of the best configuration"

    def lines_to_remove(self) -> list[Notice]:
        """Return where the script sets knobs itself, which would beat the exported values."""
        return [notice for notice in self.notices if notice.kind == "override"]

    def changes_of_order(self) -> list[Notice]:
        """Return where the configuration changes which random draw meets which element."""
        return [notice for notice in self.notices if notice.kind == "map_randomness"]


def export_of(
    study: optuna.Study, facts: StudyFacts, decision: Decision, trials: Sequence[AnyTrial]
) -> Export:
    """Return what the files say of a study, as of now."""
    return Export(
        study=study.study_name,
        created=datetime.now().astimezone(),
        version=__version__,
        facts=facts,
        decision=decision,
        notices=notices_for(decision.deployed.configuration, facts, read_records(trials)),
        tuning_s=time_spent_s(trials),
    )


def notices_for(
    configuration: Configuration, facts: StudyFacts, records: Sequence[TrialRecord]
) -> tuple[Notice, ...]:
    """Return what the default's trial and the trials of a configuration had to say, once each."""
    key = configuration_key(configuration)
    default = facts.space.default
    own = [notice for record in records if record.key(default) == key for notice in record.notices]
    return tuple(dict.fromkeys((*facts.notices, *own)))


def code_settings(configuration: Configuration) -> Configuration:
    """Return the settings that only code can apply and that change something."""
    return {
        name: value
        for name, value in configuration.items()
        if KNOBS[name].means is Means.CODE and value != AS_WRITTEN
    }


def variables(export: Export) -> dict[str, str]:
    """Return the environment variables that TensorFlow or a library under it reads."""
    means = (Means.ENVIRONMENT, Means.PRELOAD)
    return as_environment(
        {name: v for name, v in export.configuration.items() if KNOBS[name].means in means}
    )


def comment(text: str) -> str:
    """Return a text as comment lines; nothing in it can end the comment."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def header(export: Export) -> str:
    """Return the comment that each file begins with."""
    title = "Settings for TensorFlow on the CPU, found by autotune"
    values = " ".join(f"{name}={value}" for name, value in export.configuration.items())
    order = [f"note: {notice.where}: {notice.text}" for notice in export.changes_of_order()]
    order += [f"note: {n.text}" for n in export.notices if n.kind == "short"]
    removals = [
        f"remove this line, or it wins over this file: {notice.where} ({notice.text})"
        for notice in export.lines_to_remove()
    ]
    return comment(
        "\n".join([title, *export.provenance(), f"settings: {values}", *order, *removals])
    )
