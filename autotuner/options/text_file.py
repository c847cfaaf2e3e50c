"""Reading a user's text file: a regular one of a limited size, whatever its path leads to."""

import os
import stat
from pathlib import Path

from autotuner.errors import UserError

MOST_BYTES = 16 * 2**20


def file_problem(path: Path) -> str | None:
    """Return why a file can't be read as a text; None if it can.

    A named pipe would block, and a device such as /dev/zero has no end.

    Raises:
        OSError: if there is no such file.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if found.st_size > MOST_BYTES:
        return f"{found.st_size / 2**20:,.0f} MiB, more than {MOST_BYTES // 2**20}"
    return None


def read_text_file(path: Path) -> str:
    """Return a file's text.

    Raises:
        UserError: if it is no regular file, too large, not text, or can't be read.
    """
    try:
        problem = file_problem(path)
        if problem is None:
            # it may have been replaced by a pipe since; opening that must not block
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as file:
                return file.read(MOST_BYTES)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        problem = "not a text file"
    raise UserError(f"{path}: can't be read: {problem}")
