"""What every exported file states, whatever its format."""

import dataclasses
from collections.abc import Iterator, Sequence

from autotuner import __version__
from autotuner.knobs.catalogue import KNOBS, as_environment
from autotuner.knobs.knob import AS_WRITTEN, Configuration, Means
from autotuner.plain import plain
from autotuner.study.record import TrialRecord, configuration_key
from autotuner.study.study_facts import StudyFacts
from autotuner.trial.outcome import Notice
from autotuner.verdict.result import Result
from autotuner.verdict.sentences import further_sentences


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """The configuration that files hold, every value explicit, and the result behind it.

    ``holds_best``: it is the best of the search; otherwise it is TensorFlow's defaults.
    ``notices``: of the trials that ran it, and of those that ran the defaults.
    """

    result: Result
    configuration: Configuration
    holds_best: bool
    notices: tuple[Notice, ...]

    @property
    def is_unproven(self) -> bool:
        """Whether it holds a configuration that is not recommended, at the request of the user."""
        return self.holds_best and not self.result.decision.is_recommended

    def statements(self) -> Iterator[str]:
        """Yield the result in sentences; the first one is the verdict."""
        yield self.result.sentence
        yield from further_sentences(self.result.decision, self.result.payback)
        if self.is_unproven:
            yield "exported anyway: the files hold the best of the search, which is not proven."

    def provenance(self) -> list[str]:
        """Return lines on what was measured, on what, and with which result."""
        result, identity, build = self.result, self.result.facts.identity, self.result.facts.build
        # the arguments themselves may hold what does not belong into a deployed file
        count = len(identity.arguments)
        arguments = f" (with {count} arguments, see the study)" if count else ""
        verdict, *more = self.statements()
        held = "settings of the best configuration" if self.holds_best else "TensorFlow's defaults"
        return [
            f"model: {identity.model}{arguments}",
            f"model's SHA-256: {identity.model_sha256}",
            f"machine: {identity.machine}",
            f"versions: TensorFlow {build.tensorflow}, keras {build.keras or '-'}, "
            f"Python {build.python}, autotune {__version__}",
            f"study: {result.study}, exported {result.as_of:%Y-%m-%d %H:%M}",
            f"result: {verdict}",
            *more,
            f"these are {held}",
        ]


def export_of(result: Result, *, anyway: bool) -> Export:
    """Return what to write into files.

    Args:
        result: of the study.
        anyway: export the best of the search even if it is not recommended.
    """
    decision = result.decision
    holds_best = decision.is_recommended or (anyway and not decision.is_default)
    configuration = (decision.best if holds_best else decision.default).configuration
    return Export(
        result=result,
        configuration=configuration,
        holds_best=holds_best,
        notices=notices_for(configuration, result.facts, result.records),
    )


def notices_for(
    configuration: Configuration, facts: StudyFacts, records: Sequence[TrialRecord]
) -> tuple[Notice, ...]:
    """Return the notices of the defaults and of a configuration's trials, once each."""
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


def comment(*lines: str) -> str:
    """Return lines as comments; nothing in one of them can end its line."""
    return "\n".join(f"# {plain(line)}".rstrip() for line in lines)


def header(export: Export) -> str:
    """Return the comment that each file begins with."""
    title = "Settings for TensorFlow on the CPU, found by autotune"
    values = " ".join(f"{name}={value}" for name, value in export.configuration.items())
    notes = [text for n in export.notices if (text := _note(n)) is not None]
    return comment(title, *export.provenance(), f"settings: {values}", *notes)


def _note(notice: Notice) -> str | None:
    """Return what the user of a file has to know of a notice."""
    match notice.kind:
        case "override":  # the script sets a knob itself
            return f"remove this line, or it wins over this file: {notice.where} ({notice.text})"
        case "map_randomness":
            return f"note: {notice.where}: {notice.text}"
        case "short":
            return f"note: {notice.text}"
    return None
