"""Progress while a study runs: live on a terminal, plain lines elsewhere, JSON for machines.

All three receive the same events. The live display redraws at most twice a second, so as not to
disturb what is being measured.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autotuner.codec import to_json
from autotuner.knobs.knob import Configuration
from autotuner.options.duration import format_duration
from autotuner.plain import plain
from autotuner.report.wording import (
    describe,
    inert_lines,
    noise_lines,
    notice_text,
    result_text,
    role_text,
    step_text,
    trial_text,
)
from autotuner.statistics.sequential import Finding, StoppingRule
from autotuner.study.events import (
    DiagnosisKnown,
    Event,
    FactsKnown,
    NoiseKnown,
    PhaseEntered,
    ProgressMade,
    Remark,
    TrialEnded,
    TrialStarted,
)
from autotuner.study.record import Role, TrialRecord
from autotuner.study.study_facts import StudyFacts
from autotuner.trial.outcome import Phase

_REDRAWS_PER_SECOND = 2


class Display(Protocol):
    """What owns the screen while a study runs: receives each event, and sentences."""

    def __call__(self, event: Event) -> None:
        """Show an event."""

    def remark(self, text: str) -> None:
        """Show a sentence."""

    def close(self) -> None:
        """Give the screen back."""


class _Lines:
    """One line for each trial; remembers the default and the best."""

    def __init__(self, write: Callable[[str], object], rule: StoppingRule) -> None:
        self._write = write
        self._rule = rule
        self.best: float | None = None
        self.space_default: Configuration = {}

    def __call__(self, event: Event) -> None:
        match event:
            case TrialEnded(record):
                self._show_trial(record)
            case FactsKnown(facts):
                self._show_facts(facts)
            case DiagnosisKnown(diagnosis):
                self._write(f"bottleneck: {diagnosis.sentence}")
            case NoiseKnown(noise):
                for line in noise_lines(noise, self._rule):
                    self._write(line)
            case Remark(text):
                self._write(f"note: {text}")
            case _:
                pass  # what is going on now changes too often for a line of its own

    def _show_trial(self, record: TrialRecord) -> None:
        is_search = record.role not in (Role.FINAL, Role.CONTROL)
        if is_search and record.gain is not None and record.gain > (self.best or 0.0):
            self.best = record.gain
        what = describe(record.configuration, self.space_default) if record.configuration else ""
        result = result_text(record)
        if record.gain is None:
            result += f"  (log: {record.folder}/output.log)"
        self._write(
            f"trial {record.number:>3}  {trial_text(record)}: {result}"
            + (f"  [{what}]" if what else "")
        )

    def _show_facts(self, facts: StudyFacts) -> None:
        self.space_default = facts.space.default
        step = step_text(facts.source, facts.phase)
        self._write(f"a step is: {step}; measured in {facts.unit.value}")
        self._write(f"knobs: {', '.join(facts.space.domains)} ({facts.space.size:,} points)")
        for line in inert_lines(facts.liveness, facts.space.domains):
            self._write(line)
        for notice in facts.notices:
            self._write(f"note: {notice_text(notice)}")


class PlainProgress(_Lines):
    """Plain lines, for logs and pipes."""

    def __init__(self, rule: StoppingRule) -> None:
        super().__init__(self.remark, rule)

    def remark(self, text: str) -> None:
        """Write a line at once."""
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing to give back."""


class JsonProgress:
    """One JSON object per line on standard output."""

    def _emit(self, event: str, **fields: object) -> None:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()

    def __call__(self, event: Event) -> None:
        """Write an event."""
        match event:
            case TrialStarted():
                self._emit("trial_started", **to_json(event))
            case PhaseEntered(phase):
                self._emit("phase", phase=phase)
            case TrialEnded(record):
                self._emit("trial_ended", **_trial_fields(record))
            case FactsKnown(facts):
                self._emit("study", **_study_fields(facts))
            case DiagnosisKnown(diagnosis):
                self._emit("diagnosis", **to_json(diagnosis))
            case NoiseKnown(noise):
                self._emit("noise", **to_json(noise))
            case Remark(text):
                self.remark(text)
            case ProgressMade(done):
                self._emit("progress", done=round(done, 4))

    def error(self, message: str, hint: str | None) -> None:
        """Write ``error``; standard error has the same in words."""
        self._emit("error", message=message, hint=hint)

    def result(self, document: str, files: list[str]) -> None:
        """Write ``result``: the content of best.json, and the files written."""
        self._emit("result", best=json.loads(document), files=files)

    def finding(self, finding: Finding, files: list[str]) -> None:
        """Write ``finding``: what pairs of two configurations have shown."""
        self._emit("finding", **to_json(finding), files=files)

    def remark(self, text: str) -> None:
        """Write ``message``."""
        self._emit("message", text=text)

    def close(self) -> None:
        """Nothing to give back."""


def _trial_fields(record: TrialRecord) -> dict[str, object]:
    return {
        "number": record.number,
        "role": record.role,
        "status": record.status,
        "reason": record.reason,
        "throughput": None if record.throughput is None else record.throughput.value,
        "unit": None if record.throughput is None else record.throughput.unit,
        "gain": record.gain,
        "gain_interval": [record.gain_low, record.gain_high],
        "others_cores": record.others_cores,
        "configuration": dict(record.configuration),
        "folder": record.folder,
    }


def _study_fields(facts: StudyFacts) -> dict[str, object]:
    return {
        "source": facts.source,
        "phase": facts.phase,
        "unit": facts.unit,
        "knobs": list(facts.space.domains),
        "liveness": to_json(facts.liveness),
        "notices": [notice_text(notice) for notice in facts.notices],
    }


class LiveProgress(_Lines):
    """A bar, the best so far and the current trial at the foot of the terminal."""

    def __init__(self, console: Console, rule: StoppingRule) -> None:
        super().__init__(self.remark, rule)
        self._console = console
        self._started = time.monotonic()
        self._done = 0.0
        self._end: float | None = None
        self._trial: TrialStarted | None = None
        self._phase = Phase.START
        self._live = Live(
            console=console,
            refresh_per_second=_REDRAWS_PER_SECOND,
            get_renderable=self._foot,
            transient=True,
        )
        self._live.start()

    def remark(self, text: str) -> None:
        """Print a line above the foot."""
        self._console.print(Text(plain(text)))

    def close(self) -> None:
        """Take the foot away."""
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event; between two trials the estimated time just runs down."""
        super().__call__(event)
        match event:
            case TrialStarted():
                self._trial = event
            case PhaseEntered(phase):
                self._phase = phase
            case ProgressMade(done):
                self._done, now = done, time.monotonic()
                left_s = (now - self._started) * (1 - done) / done if done > 0 else None
                self._end = None if left_s is None else now + left_s

    def _foot(self) -> Group:
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=1.0, completed=self._done, width=max(10, self._console.width // 4)),
            Text(self._time_text(), no_wrap=True, overflow="ellipsis"),
        )
        return Group(line, Text(self._trial_text(), no_wrap=True, overflow="ellipsis"))

    def _time_text(self) -> str:
        now = time.monotonic()
        elapsed, left = now - self._started, ""
        if self._end is not None and self._end > now:
            left = f", at most about {format_duration(self._end - now)} left"
        best = ""
        if self.best:
            best = f"; best so far {self.best:.2f}x the default"
        return f"{format_duration(elapsed)}{left}{best}"

    def _trial_text(self) -> str:
        if self._trial is None:
            return "starting"
        configuration = self._trial.configuration
        what = describe(configuration, self.space_default) if configuration else "nothing set"
        role = role_text(self._trial.role)
        return f"trial {self._trial.number} ({role}), {self._phase.value}: {what}"


def make_progress(*, as_json: bool, console: Console, rule: StoppingRule) -> Display:
    """Return the display that fits: JSON if asked for, live on a terminal, else plain lines."""
    if as_json:
        return JsonProgress()
    return LiveProgress(console, rule) if console.is_terminal else PlainProgress(rule)
