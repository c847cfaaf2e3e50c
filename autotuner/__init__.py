"""autotune: find the fastest way to run a TensorFlow model on a CPU, and prove it.

A script may mark its own steps with :func:`step`; everything else is done by the command
``autotune``. Importing this package is cheap and imports neither TensorFlow nor Optuna.
"""

from autotuner.stepping import step

__version__ = "0.1.0"

__all__ = ["__version__", "step"]
