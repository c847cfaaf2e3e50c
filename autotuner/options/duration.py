"""Durations in written form: ``90``, ``45s``, ``10m``, ``1h30m``, ``20ms``, ``30d``."""

import re

from autotuner.errors import UserError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "": 1.0}
_HINT = "write 90s, 10m, 1h30m or 30d"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms]?)")


def parse_duration(text: str, *, where: str) -> float:
    """Return a duration in seconds.

    Args:
        text: a number of seconds, or numbers with the units d, h, m, s, ms, largest unit first.
        where: the flag or key of the text, for the message.

    Raises:
        UserError: if the text is not a duration above zero.
    """
    parts = _PART.findall(text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise UserError(f'{where}: "{text}" is not a duration', hint=_HINT)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise UserError(f"{where}: a duration must be above zero", hint=_HINT)
    return seconds


def format_duration(seconds: float) -> str:
    """Return a short text such as ``47 s``, ``3 min 05 s`` or ``1 h 02 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
