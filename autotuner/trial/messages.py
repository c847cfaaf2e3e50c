"""The messages that a child and its warden send, checked where they arrive.

A script can write to the pipe between its process and autotune, so nothing that arrives is trusted:
a message has one of these shapes, or the trial fails. The protocol is described in child/entry.py
and child/warden.py.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from autotuner.codec import CodecError, from_json
from autotuner.trial.outcome import ScriptFacts

BROKEN = "broken"
"""The event that stands for a message of no known shape; its ``text`` says what is wrong."""

_GREATEST = 1e18
_MOST_MARKS = 2000  # of one window; the child merges them from 1000 on
_SHOWN = 80

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _GREATEST


def _number(value: Any) -> bool:
    is_number = isinstance(value, float) and math.isfinite(value)
    return _whole(value) or (is_number and abs(value) < _GREATEST)


def _amount(value: Any) -> bool:
    return _number(value) and value >= 0


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _count(value: Any) -> bool:
    return _whole(value) and value > 0


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(check: Check, most: int = 100_000) -> Check:
    return lambda v: isinstance(v, list) and len(v) <= most and all(map(check, v))


def _table(check: Check) -> Check:
    return lambda v: isinstance(v, dict) and all(map(check, v.values()))


def _facts(value: Any) -> bool:
    try:
        from_json(ScriptFacts, value)
    except (CodecError, AttributeError):
        return False
    return isinstance(value, dict)


def _anything(value: Any) -> bool:
    return True


_MARKS = _list(lambda value: _whole(value) and value >= 0, _MOST_MARKS)
_OF_A_STEP = {"meter": _text, "source": _text, "phase": _text}
Shapes = Mapping[str, Mapping[str, Check]]
# required fields by event
_CHILD: Shapes = {
    "hello": {"t": _number, "python": _text, "pid": _whole, "forked": _flag},
    "tensorflow": {"t": _number},
    "notice": {"kind": _text, "where": _text, "text": _text},
    "stage": {"t": _number, "stage": _text, **_OF_A_STEP},
    "window": {
        "meter": _text,
        "stage": _text,
        "start_s": _amount,
        "duration_s": _positive,
        "steps": _count,
        "at_ns": _whole,
        "ends_us": _MARKS,
        "counts": lambda value: value == 1 or _list(_count, _MOST_MARKS)(value),
    },
    "values": {"values": _list(lambda v: isinstance(v, float) or _whole(v))},  # NaN is a result
    "done": {"t": _number, "result": _text, "facts": _facts},
    "error": {"kind": _text, "text": _text, "where": _text},
    # of a warm parent, see child/forking.py
    "ready": {"tasks": _table(_whole)},
    "refused": {"reason": _text},
    "forked": {"pid": _whole},
}
_WARDEN: Shapes = {
    "started": {"pid": _whole},
    "not_started": {"reason": _text},
    "stopped": {"t": _number, "cpu_s": _amount},
    "continued": {"t": _number},
    "low_memory": {},
    "over_limit": {"what": _text, "used": _whole, "most": _whole},
    "exited": {"code": _optional(_whole), "signal": _optional(_whole)},
}
OF_A_CHILD = frozenset({*_CHILD, BROKEN})

# fields that may be null or absent
_OPTIONAL: Shapes = {
    "tensorflow": {"tensorflow": _text, "package": _text, "onednn": _flag},
    "notice": {"knob": _text, "value": _anything},
    "window": {"samples": _amount, "lengths_us": _MARKS},
    "done": {
        **_OF_A_STEP,
        "ticks": _whole,
        "complete": _flag,
        "warm": _flag,
        "usage": _table(_number),
        "phases_seen": _list(_text),
    },
}


def parse_child(line: bytes) -> dict[str, Any]:
    """Return a child's message; an event :data:`BROKEN` if the line is none."""
    return _parse(line, _CHILD)


def parse_warden(line: bytes) -> dict[str, Any]:
    """Return a warden's message; an event :data:`BROKEN` if the line is none."""
    return _parse(line, _WARDEN)


def broken(text: str) -> dict[str, Any]:
    """Return the message that stands for what can't be read."""
    return {"event": BROKEN, "text": text}


def _parse(line: bytes, shapes: Shapes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return broken(f"no JSON: {_shown(line)}")
    problem = _problem(message, shapes)
    return message if problem is None else broken(f"{problem}: {_shown(line)}")


def _shown(line: bytes) -> str:
    return line[:_SHOWN].decode("utf-8", "replace")


def _problem(message: Any, shapes: Shapes) -> str | None:
    """Return what is wrong with a message; None if it has the shape of its event."""
    if not isinstance(message, dict) or not isinstance(message.get("event"), str):
        return "no event"
    event = message["event"]
    if event not in shapes:
        return "an unknown event"
    for name, check in shapes[event].items():
        if name not in message or not check(message[name]):
            return f"{event} without a valid {name}"
    for name, check in _OPTIONAL.get(event, {}).items():
        if message.get(name) is not None and not check(message[name]):
            return f"{event} with an invalid {name}"
    if event == "window" and not _agree(message):
        return "window with lists of different lengths"
    return None


def _agree(window: Mapping[str, Any]) -> bool:
    """Return whether the lists of a window have one length."""
    lists = (window["ends_us"], window["counts"], window.get("lengths_us"))
    return len({len(one) for one in lists if isinstance(one, list)}) == 1
