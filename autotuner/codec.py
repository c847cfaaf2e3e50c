"""Dataclasses to JSON and back, by their types: all stored and sent data passes through here.

The child does not use it: the protocol between parent and child is in child/entry.py.
"""

import types
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cattrs import BaseValidationError, Converter, transform_error

T = TypeVar("T")


def _is_scalar_union(kind: object) -> bool:
    arguments = getattr(kind, "__args__", ())
    return isinstance(kind, types.UnionType) and set(arguments) <= {int, str, float, bool}


def _make_converter() -> Converter:
    converter = Converter(unstruct_collection_overrides={tuple: list, frozenset: sorted})
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    converter.register_structure_hook(datetime, lambda value, _: datetime.fromisoformat(value))
    # a knob's value is a number or a string, which JSON distinguishes
    converter.register_structure_hook_func(_is_scalar_union, lambda value, _: value)
    return converter


_CONVERTER = _make_converter()


class CodecError(ValueError):
    """JSON does not fit a type; the message names the place."""


def to_json(value: object) -> Any:
    """Return a value as JSON: objects, lists, strings, numbers, booleans, null."""
    return _CONVERTER.unstructure(value)


def from_json(kind: type[T] | Any, stored: Any) -> T:
    """Return a value of a type from its JSON; fields that the type does not have are ignored.

    Raises:
        CodecError: if the JSON does not fit the type.
    """
    try:
        return _CONVERTER.structure(stored, kind)  # type: ignore[no-any-return]
    except BaseValidationError as error:
        raise CodecError("; ".join(transform_error(error))) from error
    except (ValueError, TypeError, KeyError) as error:
        raise CodecError(str(error)) from error


def to_stored(value: object, schema: int) -> dict[str, Any]:
    """Return the JSON of a value with the number of the schema that it has."""
    return {"schema": schema, "value": to_json(value)}


def from_stored(kind: type[T] | Any, stored: object, schema: int) -> T | None:
    """Return a value from its JSON; None if that has another schema, or none.

    Raises:
        CodecError: if the JSON has the schema and does not fit the type.
    """
    if not isinstance(stored, Mapping) or stored.get("schema") != schema:
        return None
    found: T = from_json(kind, stored["value"])
    return found
