"""Progress while a study runs: live on a terminal, plain lines elsewhere, JSON for machines.

All three hear the same things (:class:`autotuner.study.events.Listener`). The live display
redraws at most twice a second, so as not to disturb what is being measured.
"""

import dataclasses
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

from autotuner.knobs.knob import Configuration
from autotuner.options.duration import format_duration
from autotuner.report.wording import (
    describe,
    inert_lines,
    noise_lines,
    notice_text,
    result_text,
    role_text,
    trial_text,
)
from autotuner.statistics.sequential import Finding, StoppingRule
from autotuner.study.diagnosis import Diagnosis
from autotuner.study.events import Listener
from autotuner.study.noise import Noise
from autotuner.study.record import Role, StudyFacts, TrialRecord
from autotuner.trial.outcome import Phase

_REDRAWS_PER_SECOND = 2


class Progress(Listener, Protocol):
    """A listener that owns the screen while a study runs."""

    def say(self, text: str) -> None:
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
        self._current: Configuration = {}

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        self._current = configuration

    def phase_entered(self, phase: Phase) -> None:
        """Plain lines say nothing about phases."""

    def trial_ended(self, record: TrialRecord) -> None:
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

    def facts_known(self, facts: StudyFacts) -> None:
        self.space_default = facts.space.default
        step = f"{facts.source} {facts.phase}".strip()
        self._write(f"a step is: {step}; measured in {facts.unit.value}")
        self._write(f"searched: {', '.join(facts.space.domains)} ({facts.space.size:,} points)")
        for line in inert_lines(facts.liveness, facts.space.domains):
            self._write(line)
        for notice in facts.notices:
            self._write(f"note: {notice_text(notice)}")

    def diagnosis_known(self, diagnosis: Diagnosis) -> None:
        self._write(f"bottleneck: {diagnosis.sentence}")

    def noise_known(self, noise: Noise) -> None:
        for line in noise_lines(noise, self._rule):
            self._write(line)

    def remark(self, text: str) -> None:
        self._write(f"note: {text}")

    def progress(self, done: float) -> None:
        """Plain lines say nothing about the part that is done."""


class PlainProgress(_Lines):
    """Plain lines, for logs and pipes."""

    def __init__(self, rule: StoppingRule) -> None:
        super().__init__(self.say, rule)

    def say(self, text: str) -> None:
        """Write a line at once."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing to give back."""


class JsonProgress:
    """One JSON object per line on standard output."""

    def _emit(self, event: str, **fields: object) -> None:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        """Write ``trial_started``."""
        self._emit("trial_started", number=number, role=role, configuration=dict(configuration))

    def phase_entered(self, phase: Phase) -> None:
        """Write ``phase``."""
        self._emit("phase", phase=phase)

    def trial_ended(self, record: TrialRecord) -> None:
        """Write ``trial_ended``."""
        self._emit(
            "trial_ended",
            number=record.number,
            role=record.role,
            status=record.status,
            reason=record.reason,
            throughput=None if record.throughput is None else record.throughput.value,
            unit=None if record.throughput is None else record.throughput.unit,
            gain=record.gain,
            gain_interval=[record.gain_low, record.gain_high],
            others_cores=record.others_cores,
            configuration=dict(record.configuration),
            folder=record.folder,
        )

    def facts_known(self, facts: StudyFacts) -> None:
        """Write ``study``."""
        self._emit(
            "study",
            source=facts.source,
            phase=facts.phase,
            unit=facts.unit,
            knobs=list(facts.space.domains),
            liveness=[dataclasses.asdict(one) for one in facts.liveness],
            notices=[notice_text(notice) for notice in facts.notices],
        )

    def diagnosis_known(self, diagnosis: Diagnosis) -> None:
        """Write ``diagnosis``."""
        self._emit("diagnosis", **dataclasses.asdict(diagnosis))

    def noise_known(self, noise: Noise) -> None:
        """Write ``noise``."""
        self._emit("noise", **dataclasses.asdict(noise))

    def remark(self, text: str) -> None:
        """Write ``message``."""
        self.say(text)

    def progress(self, done: float) -> None:
        """Write ``progress``."""
        self._emit("progress", done=round(done, 4))

    def error(self, message: str, hint: str | None) -> None:
        """Write ``error``; standard error says the same in words."""
        self._emit("error", message=message, hint=hint)

    def result(self, document: str, files: list[str]) -> None:
        """Write ``result``: the content of best.json, and the files written."""
        self._emit("result", best=json.loads(document), files=files)

    def finding(self, finding: Finding, files: list[str]) -> None:
        """Write ``finding``: what pairs of two configurations have shown."""
        self._emit("finding", **dataclasses.asdict(finding), files=files)

    def say(self, text: str) -> None:
        """Write ``message``."""
        self._emit("message", text=text)

    def close(self) -> None:
        """Nothing to give back."""


class LiveProgress(_Lines):
    """A bar, the best so far and the current trial at the foot of the terminal."""

    def __init__(self, console: Console, rule: StoppingRule) -> None:
        super().__init__(self.say, rule)
        self._console = console
        self._started = time.monotonic()
        self._done = 0.0
        self._end: float | None = None
        self._trial: tuple[int, Role] | None = None
        self._phase = Phase.START
        self._live = Live(
            console=console,
            refresh_per_second=_REDRAWS_PER_SECOND,
            get_renderable=self._foot,
            transient=True,
        )
        self._live.start()

    def say(self, text: str) -> None:
        """Print a line above the foot."""
        self._console.print(Text(text))

    def close(self) -> None:
        """Take the foot away."""
        self._live.stop()

    def trial_started(self, number: int, role: Role, configuration: Configuration) -> None:
        """Show the trial."""
        super().trial_started(number, role, configuration)
        self._trial = (number, role)

    def phase_entered(self, phase: Phase) -> None:
        """Show the phase."""
        self._phase = phase

    def progress(self, done: float) -> None:
        """Move the bar, and estimate the end anew; between two trials the time just runs down."""
        self._done = done
        now = time.monotonic()
        self._end = now + (now - self._started) * (1 - done) / done if done > 0 else None

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
        number, role = self._trial
        what = describe(self._current, self.space_default) if self._current else "nothing set"
        return f"trial {number} ({role_text(role)}), {self._phase.value}: {what}"


def make_progress(*, as_json: bool, console: Console, rule: StoppingRule) -> Progress:
    """Return the display that fits: JSON if asked for, live on a terminal, else plain lines."""
    if as_json:
        return JsonProgress()
    return LiveProgress(console, rule) if console.is_terminal else PlainProgress(rule)
