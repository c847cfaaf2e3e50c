"""The state of a trial, from the messages that arrive.

Everything that a child sends is kept until the trial is judged, so all of it is bounded.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from autotuner.trial import messages
from autotuner.trial.outcome import Notice, Phase, Window

# each takes 200 bytes here; a child sends no more than 8,000 marks a second
_MOST_MARKS = 500_000
_MOST_ENTRIES = 200_000
_MOST_NOTICES = 1000
_CLOSED = (
    "the script's process has closed the pipe to autotune: it runs another program in its place "
    "(os.exec...), or has closed all open files"
)
_WRITES = "the script writes into the pipe between its process and autotune"


class Mark(NamedTuple):
    """The end of a step, or of a few very short ones; seconds of the monotonic clock."""

    end_s: float
    length_s: float
    steps: int
    samples: float | None


@dataclasses.dataclass(kw_only=True)
class TrialProgress:
    """The state of a trial while its messages arrive. ``marks`` and ``windows`` are by meter."""

    phase: Phase = Phase.START
    hello: dict[str, Any] = dataclasses.field(default_factory=dict)
    stage_times: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    build: dict[str, Any] = dataclasses.field(default_factory=dict)
    windows: dict[str, list[Window]] = dataclasses.field(default_factory=dict)
    marks: dict[str, list[Mark]] = dataclasses.field(default_factory=dict)
    measuring: str | None = None
    notices: list[Notice] = dataclasses.field(default_factory=list)
    values: list[list[float]] = dataclasses.field(default_factory=list)
    stopped: dict[str, Any] | None = None
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    exited: dict[str, Any] | None = None
    closed: bool = False
    broken: bool = False
    low_memory: bool = False
    over_limit: dict[str, Any] | None = None
    warden_gone: bool = False
    entries: int = 0
    """The number of windows, stages and values so far."""

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.exited is not None or self.warden_gone

    @property
    def measured(self) -> list[Window]:
        """The windows of the meter that measures, without its warm-up."""
        windows = self.windows.get(self.measuring or "", ())
        return [window for window in windows if not window.warmup]

    @property
    def is_cut_off(self) -> bool:
        """Whether no more messages can come, although nothing has ended the trial."""
        return self.closed and self.done is None and self.error is None

    def cut_off(self) -> None:
        """Fail the trial because it is cut off."""
        self.error, self.phase = {"kind": "pipe", "text": _CLOSED, "where": ""}, Phase.EXIT

    def take(self, message: Mapping[str, Any]) -> None:
        """Update the state from one message of the child or the warden."""
        if self.broken and message["event"] in messages.OF_A_CHILD:
            return
        self._bound(message)
        match message["event"]:
            case "hello":
                self.hello = dict(message)
            case "tensorflow":
                self.build = dict(message)
            case "stage":
                self._take_stage(message)
            case "window":
                self._take_window(message)
            case "notice":
                self._take_notice(message)
            case "values":
                self.values.append([float(value) for value in message["values"]])
            case "done":
                self.done, self.phase = dict(message), Phase.EXIT
            case "error":
                self.error, self.phase = dict(message), Phase.EXIT
            case "stopped":
                self.stopped = dict(message)
            case "continued":
                self.stopped = None
            case "closed":
                self.closed = True
            case "low_memory":
                self.low_memory = True
            case "over_limit":
                self.over_limit = self.over_limit or dict(message)
            case "not_started":
                self.error = {"kind": "not_started", "text": message["reason"], "where": ""}
            case "exited":
                self.exited = dict(message)
            case "warden_gone":
                self.warden_gone = True
            case messages.BROKEN:
                self._break(message["text"])

    def _bound(self, message: Mapping[str, Any]) -> None:
        """Break off if the child has sent more than any script has: all of it is kept."""
        if message["event"] in ("stage", "window"):
            self.entries += 1
        elif message["event"] == "values":
            self.entries += 1 + len(message["values"])
        if self.entries > _MOST_ENTRIES:
            self._break(f"more than {_MOST_ENTRIES:,} windows and values")

    def _break(self, what: str) -> None:
        """Fail the trial: its messages can't be trusted any more, a result included."""
        self.broken, self.done, self.phase = True, None, Phase.EXIT
        self.error = {"kind": "pipe", "text": f"{_WRITES} ({what})", "where": ""}

    def _take_stage(self, message: Mapping[str, Any]) -> None:
        meter, stage = message["meter"], message["stage"]
        self.stage_times.setdefault((meter, stage), message["t"])
        if self.phase is not Phase.MEASURE:
            self.phase = Phase.MEASURE if stage == "measure" else Phase.WARMUP
            self.measuring = meter

    def _take_window(self, message: Mapping[str, Any]) -> None:
        window = Window(
            warmup=message["stage"] == "warmup",
            start_s=message["start_s"],
            duration_s=message["duration_s"],
            steps=message["steps"],
            samples=message.get("samples"),
        )
        self.windows.setdefault(message["meter"], []).append(window)
        if not window.warmup:
            self.marks.setdefault(message["meter"], []).extend(_marks(message))
            if sum(map(len, self.marks.values())) > _MOST_MARKS:
                self._break(f"more than {_MOST_MARKS:,} steps in one measurement")

    def _take_notice(self, message: Mapping[str, Any]) -> None:
        value = message.get("value")
        notice = Notice(
            kind=message["kind"],
            where=message["where"],
            text=message["text"],
            knob=message.get("knob"),
            value=None if value is None else str(value),
        )
        if notice not in self.notices:
            self.notices.append(notice)
        if len(self.notices) > _MOST_NOTICES:
            self._break(f"more than {_MOST_NOTICES:,} notices")


def _marks(message: Mapping[str, Any]) -> list[Mark]:
    """Return the marks of a window; its samples are spread evenly over its steps."""
    ends: list[int] = message["ends_us"]
    counts = [1] * len(ends) if message["counts"] == 1 else message["counts"]
    lengths = message.get("lengths_us")
    if lengths is None:
        lengths = [end - before for before, end in zip([0, *ends], ends, strict=False)]
    samples, steps = message.get("samples"), message["steps"]
    per_step = None if samples is None else samples / steps
    at_s = message["at_ns"] * 1e-9
    return [
        Mark(at_s + end * 1e-6, length * 1e-6, count, per_step and per_step * count)
        for end, length, count in zip(ends, lengths, counts, strict=True)
    ]
