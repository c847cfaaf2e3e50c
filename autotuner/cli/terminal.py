"""Standard output as a console: coloured on a terminal only, and wide in a pipe."""

import os
import sys

from rich.console import Console

_PIPE_WIDTH = 200


def out_console(*, soft_wrap: bool = False) -> Console:
    """Return a console of the terminal's width, or a wide one in a pipe, where rows are for grep.

    ``COLUMNS`` overrides both. Rich writes no colours into a pipe, or where NO_COLOR is set.

    Args:
        soft_wrap: let the terminal break lines.
    """
    wide = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(highlight=False, soft_wrap=soft_wrap, width=_PIPE_WIDTH if wide else None)
