"""The table of options: reads a specification from JSON, TOML or command-line values, and writes
the command line that repeats a specification.

``cli/flags.py`` makes the parameters of commands from the table.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping

from autotuner.errors import UserError, did_you_mean
from autotuner.options.option import Option, Place
from autotuner.options.study_spec import StudySpec, Timing

_UNITS = ("_s", "_bytes")


def _stem(name: str) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name


def _declared(kind: type, *around: str) -> Iterator[Option]:
    """Yield the options of a dataclass's fields, completed from the fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        for option in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(option, Option):
                key = option.key or _stem(field.name)
                yield dataclasses.replace(
                    option,
                    key=key,
                    flag=option.flag or f"--{key.replace('_', '-')}",
                    file_key=option.file_key or ".".join((*around, key)),
                    path=(*around, field.name),
                    initial=None if field.default is dataclasses.MISSING else field.default,
                )


OPTIONS = {option.key: option for option in (*_declared(StudySpec), *_declared(Timing, "timing"))}


def value_of(spec: StudySpec, option: Option) -> object:
    """Return the value that a specification has for an option."""
    value: object = spec
    for name in option.path:
        value = getattr(value, name)
    return value


def with_values(spec: StudySpec, values: Mapping[str, object]) -> StudySpec:
    """Return a specification with other values, given by their options' keys."""
    paths = {OPTIONS[key].path: value for key, value in values.items()}
    timing = {path[1]: value for path, value in paths.items() if len(path) > 1}
    fields: dict[str, typing.Any] = {p[0]: value for p, value in paths.items() if len(p) == 1}
    changed: Timing = dataclasses.replace(spec.timing, **typing.cast("typing.Any", timing))
    return dataclasses.replace(spec, **fields, timing=changed)


def spec_from_given(
    given: Mapping[str, object], *, base: StudySpec, place: Place = Place.BODY
) -> StudySpec:
    """Return a specification with given values that override its own.

    Args:
        given: values of JSON or the command line, by the options' keys; None: not given.
        base: the specification to override.
        place: where the values come from: it decides which options are allowed, and whether a
            message names the flag or the key.

    Raises:
        UserError: for the first wrong key or value.
    """
    known = {key: option for key, option in OPTIONS.items() if place in option.places}
    values = {}
    for key, value in given.items():
        if key not in known:
            raise UserError(f'unknown key "{key}"', hint=did_you_mean(key, known))
        if value is not None:
            where = known[key].flag if place is Place.FLAG else key
            values[key] = known[key].kind.read(value, where)
    return with_values(base, values)


def to_given(spec: StudySpec, place: Place = Place.BODY) -> dict[str, object]:
    """Return the values that differ from the defaults, as JSON; the inverse of spec_from_given."""
    values = ((option, value_of(spec, option)) for option in OPTIONS.values())
    return {
        option.key: option.kind.write(value)
        for option, value in values
        if place in option.places and value != option.initial
    }


def to_argv(spec: StudySpec) -> list[str]:
    """Return the options of ``autotune run`` that give a specification.

    Options at their defaults are left out. The script's arguments are not included; they go after
    ``--``, behind any further options.
    """
    words = []
    for option in OPTIONS.values():
        value = value_of(spec, option)
        if Place.FLAG in option.places and value != option.initial:
            words += option.words(value)
    return words
