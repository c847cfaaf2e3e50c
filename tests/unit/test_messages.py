"""Messages from a script's process: nothing that it can send is a bug in autotune."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotuner.trial import messages
from autotuner.trial.messages import BROKEN, parse_child, parse_warden
from autotuner.trial.progress import TrialProgress

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
WINDOW: dict[str, Any] = {
    "event": "window",
    "t": 1.0,
    "meter": "keras:fit",
    "stage": "measure",
    "start_s": 0.0,
    "duration_s": 0.2,
    "steps": 2,
    "samples": 8,
    "at_ns": 10,
    "ends_us": [5, 9],
    "counts": 1,
    "lengths_us": None,
}
VALID: list[dict[str, Any]] = [
    {"event": "hello", "t": 0.5, "python": "3.11", "executable": "p", "pid": 3, "forked": False},
    {"event": "tensorflow", "t": 0.6, "tensorflow": "2.21", "package": "tensorflow"},
    {"event": "notice", "t": 0.7, "kind": "k", "where": "a.py:1", "text": "text"},
    {"event": "stage", "t": 1, "stage": "measure", "meter": "m", "source": "s", "phase": "p"},
    WINDOW,
    {"event": "values", "values": [1.0, float("nan")]},
    {"event": "done", "t": 2.0, "result": "measured", "facts": {"thread_pools": {"a": 1}}},
    {"event": "error", "kind": "memory", "text": "t", "where": "w"},
]


def line(message: object) -> bytes:
    """Return a message as it is sent."""
    return json.dumps(message).encode()


def test_what_the_child_sends_passes() -> None:
    """As it is."""
    for message in VALID:
        assert parse_child(line(message))["event"] == message["event"]
    assert parse_warden(line({"event": "exited", "code": 0, "signal": None}))["code"] == 0


def test_each_pipe_has_its_own_events() -> None:
    """A script can't say that its warden has ended."""
    forged = line({"event": "exited", "code": 0, "signal": None})
    assert parse_child(forged)["event"] == BROKEN
    assert parse_warden(line(WINDOW))["event"] == BROKEN


@given(st.binary(max_size=60) | JSON.map(line))
def test_anything_can_be_parsed(data: bytes) -> None:
    """It is a message, or it is broken."""
    for parse in (parse_child, parse_warden):
        assert isinstance(parse(data)["event"], str)


@given(st.sampled_from(VALID), st.data())
def test_a_message_that_passes_can_be_taken(message: dict[str, Any], data: st.DataObject) -> None:
    """Fields are changed and left out at random: what passes the check raises nothing later."""
    changed = dict(message)
    for name in data.draw(st.sets(st.sampled_from(sorted(set(message) - {"event"})))):
        if data.draw(st.booleans()):
            del changed[name]
        else:
            changed[name] = data.draw(JSON)
    progress = TrialProgress()
    progress.take(parse_child(line(changed)))
    assert progress.error is None or progress.error["kind"]


def test_a_window_s_lists_have_one_length() -> None:
    """Else its marks would be wrong."""
    changes: list[dict[str, Any]] = [{"counts": [1]}, {"lengths_us": [1, 2, 3]}]
    for change in changes:
        assert parse_child(line({**WINDOW, **change}))["event"] == BROKEN


def test_too_many_steps_fail_the_trial() -> None:
    """Each mark takes memory here."""
    progress = TrialProgress()
    for k in range(251):  # whatever the script calls its meters
        window = {**WINDOW, "ends_us": [1] * 2000, "meter": f"meter {k % 7}"}
        progress.take(messages.parse_child(line(window)))
    assert progress.error is not None
    assert "more than 500,000 steps" in progress.error["text"]


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({**WINDOW, "stage": "warmup"}, "windows and values"),
        ({"event": "values", "values": [0.5] * 1000}, "windows and values"),
        ({"event": "notice", "kind": "k", "where": "w", "text": "t"}, "notices"),
    ],
)
def test_too_much_of_anything_fails_the_trial(message: dict[str, Any], what: str) -> None:
    """All of it is kept until the trial has ended."""
    progress, number = TrialProgress(), 0
    while progress.error is None:
        number += 1
        assert number <= 200_001
        text = {"text": str(number)} if "text" in message else {}
        progress.take({**message, **text})
    assert what in progress.error["text"]


def test_a_number_that_no_float_holds_is_none() -> None:
    """JSON has no limits."""
    huge = b'{"event": "values", "values": [1' + b"0" * 400 + b"]}"
    assert parse_child(huge)["event"] == BROKEN
