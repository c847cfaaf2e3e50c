"""What a trial may use, and as whom it runs: for scripts of people who are not trusted with more.

Its warden sees to the limits, every quarter of a second, as TensorFlow does not run under the
kernel's own: RLIMIT_AS counts what is only reserved, which is very much.
"""

import dataclasses
import os
import pwd
from pathlib import Path
from typing import Any

from autotuner.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confinement:
    """Bounds of every trial; None: none.

    ``user``: whose name it runs under. ``memory_bytes``: that its processes may have resident
    together. ``processes``: how many it may have at a time.
    """

    user: str | None = None
    memory_bytes: int | None = None
    processes: int | None = None

    @property
    def entry(self) -> pwd.struct_passwd | None:
        """The user's entry in the system's list; None without a user of its own."""
        return None if self.user is None else pwd.getpwnam(self.user)

    def limits(self, memory_floor_bytes: int) -> dict[str, Any]:
        """Return what the warden is told, see child/warden.py.

        Args:
            memory_floor_bytes: the trial is stopped when less is available on the machine.
        """
        return {
            "memory_floor": memory_floor_bytes,
            "memory_most": self.memory_bytes or 0,
            "processes_most": self.processes or 0,
        }

    def environment(self) -> dict[str, str]:
        """Return the variables that say who a process is."""
        entry = self.entry
        if entry is None:
            return {}
        return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}

    def give(self, folder: Path) -> None:
        """Let the trial's user read and write a folder, and what is in it.

        Raises:
            OSError: if that can't be done.
        """
        entry = self.entry
        if entry is None:
            return
        for path in (folder, *folder.iterdir()):
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


UNCONFINED = Confinement()


def check_confinement(confinement: Confinement) -> Confinement:
    """Return a confinement that can be had here.

    Raises:
        UserError: if there is no such user, or this process may not become another one.
    """
    user = confinement.user
    if user is None:
        return confinement
    if os.geteuid() != 0:
        hint = "start it by sudo, or leave --run-as out"
        raise UserError(f"--run-as {user}: only root may run scripts as somebody else", hint=hint)
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        hint = f"make one: useradd --system --create-home {user}"
        raise UserError(f"--run-as {user}: there is no such user", hint=hint) from error
    if entry.pw_uid == 0:
        raise UserError(f"--run-as {user}: that is root", hint="name a user without privileges")
    return confinement
