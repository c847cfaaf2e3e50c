"""Trials of real children: a short timing, and a script that marks its own steps."""

from collections.abc import Callable

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
