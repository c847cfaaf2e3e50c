"""The values that a study remembers for all its workers, in Optuna's user attributes of the study.

Each key holds one value of one type as JSON with a schema number. A study of another schema was not
made by this version of autotune.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import optuna

from autotuner.codec import from_stored, to_stored
from autotuner.options.study_spec import StudySpec
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.noise import Noise
from autotuner.study.study_facts import Origin, StudyFacts
from autotuner.study.warm_check import WarmCheck

SCHEMA = 5
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Key(Generic[T]):
    """Where a study keeps a value, and the value's type."""

    name: str
    kind: type[T]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """The result in a few words, for lists; ``trials``: the number of trials at that time."""

    text: str
    trials: int


SPEC = Key("spec", StudySpec)
ORIGIN = Key("origin", Origin)
FACTS = Key("facts", StudyFacts)
NOISE = Key("noise", Noise)
WARM = Key("warm_check", WarmCheck)
DIAGNOSIS = Key("diagnosis", Diagnosis)
SUMMARY = Key("summary", Summary)
UNFINISHED_SINCE = Key("unfinished_since", datetime)


class Memory:
    """The remembered values of one study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._known: dict[str, Any] = {}

    def read(self, key: Key[T]) -> T | None:
        """Return a value; None if it has not been written.

        A value is read from the study once: after that only this process changes it.
        """
        if self._known.get(key.name) is None:
            self._known[key.name] = decode(self._attributes(), key)
        found: T | None = self._known[key.name]
        return found

    def read_all(self, keys: Iterable[Key[Any]]) -> None:
        """Read several values at once, of which each :meth:`read` would fetch all attributes."""
        attributes = self._attributes()
        for key in keys:
            if self._known.get(key.name) is None:
                self._known[key.name] = decode(attributes, key)

    def has(self, key: Key[T]) -> bool:
        """Return whether a value is there, of any schema."""
        return self._attributes().get(key.name) is not None

    def _attributes(self) -> Mapping[str, Any]:
        """Return the study's user attributes; ``Study.user_attrs`` would copy all of them."""
        return self._study._storage.get_study_user_attrs(self._study._study_id)

    def write(self, key: Key[T], value: T | None) -> None:
        """Store a value in the study; None removes it."""
        stored = None if value is None else to_stored(value, SCHEMA)
        self._study.set_user_attr(key.name, stored)
        self._known[key.name] = value
        if isinstance(value, StudyFacts):
            self._name_metric(value)

    def _name_metric(self, facts: StudyFacts) -> None:
        """Name the study's values for the dashboard."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names([f"{facts.objective.value} ({facts.score_unit})"])


def decode(attributes: Mapping[str, Any], key: Key[T]) -> T | None:
    """Return a value from a study's user attributes; None if it is not there."""
    found: T | None = from_stored(key.kind, attributes.get(key.name), SCHEMA)
    return found
