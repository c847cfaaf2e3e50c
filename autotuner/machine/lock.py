"""One tuning run at a time per machine: two at once would measure each other.

An flock on one file for all users, so that a killed process never leaves it taken. Written here and
not taken from a library, because another user's file in a sticky folder must be opened without
O_CREAT (fs.protected_regular), which lock libraries do not do.
"""

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from autotuner.errors import UserError

_VARIABLE = "AUTOTUNE_LOCK"
# flock wakes who waits, but hands nothing over: who asks again at once has it before they are up
_ASIDE_S = 0.02


def lock_path() -> Path:
    """Return the lock's file; AUTOTUNE_LOCK names another, for containers that share no /tmp."""
    return Path(os.environ.get(_VARIABLE) or Path(tempfile.gettempdir()) / "autotune.lock")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        with contextlib.suppress(PermissionError):  # another user has made it meanwhile
            os.fchmod(descriptor, 0o666)
        return descriptor


def _holder(descriptor: int) -> str:
    """Return who holds the lock, as the holder has written it."""
    try:
        fields = json.loads(os.pread(descriptor, 4096, 0))
        return f"study {fields['study']}, process {fields['pid']}, since {fields['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has not said which"


@contextlib.contextmanager
def hold_machine(study: str, *, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Be the only tuning run on this machine.

    Args:
        study: the study's name, told to those who find the lock taken.
        wait: wait for another run to end, instead of raising.
        say: hears for whom we wait.

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
                hint = "--wait waits for its end; two at once would measure each other"
                message = f"another tuning run holds this machine: {holder}"
                raise UserError(message, hint=hint) from error
            say(f"waiting for another tuning run: {holder}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        fields = {"study": study, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(fields).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # and so unlocks
        time.sleep(_ASIDE_S)
