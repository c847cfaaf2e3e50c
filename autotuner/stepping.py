"""The one function that a user's script may call; outside a trial it does nothing.

Inside a trial the child puts its own module of the name ``autotuner`` in front of this one, whether
or not the package is installed in the user's interpreter, and there ``step`` counts.
"""


def step(samples: int | None = None) -> None:
    """Mark the end of one step of the script's own loop.

    Args:
        samples: how many samples the step worked on, if the result is to be in samples per second.
    """
