"""``python -m autotuner`` is the command ``autotune``."""

from autotuner.cli.main import run

run()
