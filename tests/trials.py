"""Trials of real children: a short timing, and a script that marks its own steps."""

import json
from collections.abc import Callable
from pathlib import Path

from autotuner.options.study_spec import Timing
from autotuner.trial.outcome import Outcome

RunScript = Callable[..., Outcome]
"""What the fixture ``run_script`` returns."""

QUICK = Timing(
    window_s=0.05,
    warmup_min_s=0.1,
    warmup_max_s=1.0,
    measure_s=0.3,
    start_timeout_s=120,
    warmup_timeout_s=60,
    measure_timeout_s=60,
    grace_s=5,
)
STEPS = """
from autotuner import step
import time
while True:
    time.sleep(0.002)
    step(samples=4)
"""


def forked_trials(folder: Path) -> dict[int, bool]:
    """Return for each trial in a study's folder of trials whether its process was forked."""
    forked = {}
    for trial in folder.glob("[0-9]*"):
        events = map(json.loads, (trial / "events.jsonl").read_text().splitlines())
        hello = next(event for event in events if event["event"] == "hello")
        forked[int(trial.name)] = hello["forked"]
    return dict(sorted(forked.items()))
