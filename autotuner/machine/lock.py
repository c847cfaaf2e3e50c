"""The machine lock: one tuning run at a time, because two would disturb each other's measurements.

The lock is an flock on one file for all users, so a killed process never keeps it. Lock libraries
don't fit: another user's file in a sticky folder must be opened without O_CREAT
(fs.protected_regular).
"""

import contextlib
import errno
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from autotuner.errors import UserError

_VARIABLE = "AUTOTUNE_LOCK"
# flock wakes a waiter without passing the lock on: without a pause the last holder gets it again
_PAUSE_S = 0.02


def lock_path() -> Path:
    """Return the lock's file. AUTOTUNE_LOCK overrides it, for containers that share no /tmp."""
    return Path(os.environ.get(_VARIABLE) or Path(tempfile.gettempdir()) / "autotune.lock")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        with contextlib.suppress(PermissionError):  # another user has made it meanwhile
            os.fchmod(descriptor, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file")


def _holder(descriptor: int) -> str:
    """Return the holder of the lock, as it has written itself into the file."""
    try:
        fields = json.loads(os.pread(descriptor, 4096, 0))
        return f"study {fields['study']}, process {fields['pid']}, since {fields['since']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "its name is not known"


@contextlib.contextmanager
def hold_machine(study: str, *, wait: bool, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine lock while the context lasts.

    Args:
        study: the study's name, shown to runs that find the lock taken.
        wait: wait for another run to end, instead of raising.
        report: called with a sentence that names the other run.

    Raises:
        UserError: if another run holds the lock, or the lock's file can't be opened.
    """
    path = lock_path()
    try:
        descriptor = _open(path)
    except OSError as error:
        hint = f"{_VARIABLE} names another file"
        raise UserError(f"{path}: can't be locked: {error.strerror}", hint=hint) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            if not wait:
                hint = "--wait waits for its end; two runs would disturb each other's measurements"
                message = f"another tuning run holds this machine: {holder}"
                raise UserError(message, hint=hint) from error
            report(f"waiting for another tuning run: {holder}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        fields = {"study": study, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(fields).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # releases the lock
        time.sleep(_PAUSE_S)
