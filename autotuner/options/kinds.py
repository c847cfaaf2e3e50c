"""Kinds of values: how each is read from TOML, JSON or the command line, and written back.

Every check of a single value is here, so that a flag, a key of a file and a key of an HTTP body
reject the same values with the same message.
"""

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from autotuner.errors import UserError, did_you_mean
from autotuner.options.duration import parse_duration
from autotuner.options.names import check_name
from autotuner.options.quantity import parse_bytes

_LONGEST_S = 30 * 86_400.0
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _unchanged(value: Any) -> object:
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of value.

    ``read`` takes what TOML, JSON or the command line holds and the place that a message names; it
    raises UserError. ``write`` is its inverse: what TOML and JSON hold. ``flag_type`` is what the
    command line parses before ``read``: str, Path, int, float, bool (a switch) or list[str] (a flag
    that may be repeated). ``json_type``: the type of what ``write`` returns. ``least``: the lowest
    number. ``negatable``: a switch that has a ``--no-`` form.
    """

    read: Callable[[object, str], Any]
    write: Callable[[Any], object] = _unchanged
    flag_type: Any = str
    json_type: Any = str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    negatable: bool = False


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a string, got {value!r}", hint=f'write {where} = "..."')
    return value


def _study_name(value: object, where: str) -> str:
    return check_name(_text(value, where), where)


def _path(value: object, where: str) -> Path:
    return value if isinstance(value, Path) else Path(_text(value, where))


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where}: expected a whole number, got {value!r}")
    return value


def _fraction(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        hint = "0.03 is 3 %"
        raise UserError(f"{where}: expected a number between 0 and 1, got {value!r}", hint=hint)
    return float(value)


def _switch(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{where}: expected true or false, got {value!r}")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{where}: expected a list of strings, got {value!r}")
    return tuple(value)


def _names(value: object, where: str) -> tuple[str, ...]:
    texts = value.split(",") if isinstance(value, str) else _texts(value, where)
    return tuple(name.strip() for name in texts if name.strip())


def _variables(value: object, where: str) -> tuple[tuple[str, str], ...]:
    """Read a table of strings, or a list of NAME=VALUE from flags."""
    if isinstance(value, list):
        pairs = [text.partition("=") for text in _texts(value, where)]
        for name, sign, _ in pairs:
            if not sign:
                raise UserError(f'{where}: "{name}" has no value', hint=f"write {name}=VALUE")
        value = {name: text for name, _, text in pairs}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise UserError(f"{where}: expected a table of strings", hint='TF_CPP_MIN_LOG_LEVEL = "2"')
    for name, text in value.items():
        if "\0" in text:
            raise UserError(f"{where}: the value of {name} holds a NUL character")
        if not _VARIABLE.fullmatch(name):
            raise UserError(f'{where}: "{name}" can\'t be the name of a variable')
    return tuple(sorted(value.items()))


def _shapes(value: object, where: str) -> tuple[str, ...]:
    shapes = _texts(value, where)
    for text in shapes:
        name, sign, dimensions = text.partition("=")
        sizes = dimensions.split(",")
        if not name or not sign or not all(size.isdecimal() and int(size) > 0 for size in sizes):
            raise UserError(f'{where} "{text}": not a shape', hint="write images=32,224,224,3")
    return shapes


def _seconds(value: object, where: str) -> float:
    seconds = parse_duration(str(value), where=where)
    if seconds > _LONGEST_S:
        raise UserError(f"{where}: {value} is longer than 30 days", hint="at most 30d")
    return seconds


def _write_seconds(seconds: float) -> str:
    return f"{Decimal(str(seconds)).normalize():f}s"  # all digits, no exponent


def _bytes(value: object, where: str) -> int:
    return parse_bytes(str(value), where=where)


def whole(*, least: int | None = None, problem: str = "is too few", hint: str = "") -> Kind:
    """Return the kind of whole numbers, from ``least`` on; ``problem`` completes the message."""

    def read(value: object, where: str) -> int:
        number = _whole(value, where)
        if least is not None and number < least:
            raise UserError(f"{where}: {number} {problem}", hint=hint or f"at least {least}")
        return number

    return Kind(read=read, flag_type=int, json_type=int, metavar="N", least=least)


def batch_size() -> Kind:
    """Return the kind of batch sizes."""

    def read(value: object, where: str) -> int:
        number = _whole(value, where)
        if number < 1:
            raise UserError(f"{where}: a batch can't have {number} samples", hint="at least 1")
        return number

    return Kind(read=read, flag_type=int, json_type=int, metavar="N", least=1)


def one_of(choices: type[enum.StrEnum], metavar: str) -> Kind:
    """Return the kind of one of an enum's values."""
    values = tuple(choice.value for choice in choices)

    def read(value: object, where: str) -> enum.StrEnum:
        text = _text(value, where)
        if text not in values:
            raise UserError(f'{where}: unknown value "{text}"', hint=did_you_mean(text, values))
        return choices(text)

    return Kind(read=read, write=str, metavar=metavar, choices=values)


def switch_to(choice: enum.StrEnum) -> Kind:
    """Return the kind of an enum's values whose flag is a switch that stands for one of them."""
    values = one_of(type(choice), "")

    def read(value: object, where: str) -> Any:
        return choice if value is True else values.read(value, where)

    return dataclasses.replace(values, read=read, flag_type=bool, metavar=None)


TEXT = Kind(read=_text, metavar="TEXT")
NAME = Kind(read=_text, metavar="NAME")
STUDY_NAME = Kind(read=_study_name, metavar="NAME")
PATH = Kind(read=_path, write=str, flag_type=Path, metavar="PATH")
FRACTION = Kind(read=_fraction, flag_type=float, json_type=float, metavar="FRACTION")
SWITCH = Kind(read=_switch, flag_type=bool, json_type=bool, negatable=True)
TEXTS = Kind(read=_texts, write=list, flag_type=list[str], json_type=list[str], metavar="TEXT")
NAMES = Kind(read=_names, write=list, json_type=list[str], metavar="NAMES")
SHAPES = Kind(
    read=_shapes, write=list, flag_type=list[str], json_type=list[str], metavar="NAME=SIZES"
)
VARIABLES = Kind(
    read=_variables,
    write=dict,
    flag_type=list[str],
    json_type=dict[str, str],
    metavar="NAME=VALUE",
)
DURATION = Kind(read=_seconds, write=_write_seconds, metavar="TIME")
MEMORY = Kind(read=_bytes, write=str, metavar="SIZE")
