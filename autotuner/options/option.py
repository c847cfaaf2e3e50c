"""Options: data that is declared beside a field of the specification."""

import dataclasses
import enum
from collections.abc import Mapping

from autotuner.options.kinds import Kind


class Group(enum.StrEnum):
    """The panels of ``autotune run --help``, in their order."""

    SCRIPT = "Script"
    SEARCH = "Search"
    BUDGET = "Budget"
    MEASUREMENT = "Measurement"
    VERDICT = "Verdict"
    TRIALS = "Trials"


class Place(enum.Enum):
    """Where an option may be given: the command line, ``study.toml``, the body of a request."""

    FLAG = enum.auto()
    FILE = enum.auto()
    BODY = enum.auto()


EVERYWHERE = frozenset(Place)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a study.

    A declaration states ``group``, ``kind``, ``help`` and the exceptions; the table fills in the
    rest from the field: ``key`` (the name in a request; the field's name without its
    unit), ``flag`` (``--`` and the key), ``file_key`` (the key in study.toml, with the name of its
    table), ``path`` (the field, and the dataclass around it) and ``initial`` (the field's default).

    ``help`` may hold ``{choices}``. ``default`` describes the default where its value is not
    enough. ``hidden``: left out of ``--help``.
    """

    group: Group
    kind: Kind
    help: str
    default: str | None = None
    places: frozenset[Place] = EVERYWHERE
    hidden: bool = False
    key: str = ""
    flag: str = ""
    file_key: str = ""
    path: tuple[str, ...] = ()
    initial: object = None

    @property
    def help_text(self) -> str:
        """The help with the choices filled in."""
        *others, last = self.kind.choices or ("",)
        return self.help.format(choices=f"{', '.join(others)} or {last}")

    @property
    def default_text(self) -> str | None:
        """The default in words; None if there is nothing to state."""
        if self.default is not None:
            return self.default
        if self.initial is None or self.kind.flag_type in (bool, list[str]):
            return None
        return str(self.kind.write(self.initial)) or None

    def words(self, value: object) -> list[str]:
        """Return the command-line arguments for a value other than the default."""
        stored = self.kind.write(value)
        if self.kind.flag_type is bool:
            return [self.flag]  # a switch stands for the one value that is not the default
        if isinstance(stored, Mapping):
            return [f"{self.flag}={name}={text}" for name, text in stored.items()]
        if isinstance(stored, list) and self.kind.flag_type is str:
            stored = ",".join(stored)
        values = stored if isinstance(stored, list) else [stored]
        return [f"{self.flag}={one}" for one in values]
