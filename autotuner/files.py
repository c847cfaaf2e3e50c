"""Files in folders that a script can write to.

What is read or replaced there may have become a link, a named pipe or a device since: opening it
could block for ever, have no end, or lead to a file of another user.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a link in its place is not followed.

    Raises:
        OSError: if there is none, or something else is in its place.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(f"{path}: not a regular file")


def create(path: Path) -> BinaryIO:
    """Make a new file for appending, in place of what is there.

    Raises:
        OSError: if it can't be made.
    """
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "ab")


def write_whole(path: Path, text: str) -> None:
    """Write a draft beside a file, then rename it; a failure leaves the old file as it was.

    Raises:
        OSError: if it can't be written.
    """
    draft = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        with create(draft) as file:
            file.write(text.encode())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
