"""The function that a user's script may call; outside a trial it does nothing.

Inside a trial the child provides its own module ``autotuner``, whose ``step`` counts, whether or
not the package is installed in the user's interpreter.
"""


def step(samples: int | None = None) -> None:
    """Mark the end of one step of the script's own loop.

    Args:
        samples: the number of samples in the step, for a result in samples per second.
    """
