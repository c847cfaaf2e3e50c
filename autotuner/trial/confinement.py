"""The limits and the user of trials, for scripts of people who are not fully trusted.

The trial's warden, which stays root's, checks the limits four times a second. The kernel's limits
do not fit: RLIMIT_AS counts reserved memory, of which TensorFlow's processes have very much, and
RLIMIT_NPROC counts the threads of all processes of a user.

The folder of a trial stays root's as well. A script that could write there could replace a file
that autotune writes or reads as root by a link.
"""

import dataclasses
import os
import pwd
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autotuner.errors import UserError

_SESSION = ("XDG_", "SUDO_", "SSH_", "DBUS_")
_ANSWER_S = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confinement:
    """Limits of every trial; None: no limit.

    ``user``: name of the user that runs it. ``memory_bytes``: resident memory of all its processes
    together. ``processes``: how many processes it may have at a time.
    """

    user: str | None = None
    memory_bytes: int | None = None
    processes: int | None = None

    @property
    def entry(self) -> pwd.struct_passwd | None:
        """The user's entry in the password database; None without a separate user."""
        return None if self.user is None else pwd.getpwnam(self.user)

    @property
    def groups(self) -> list[int]:
        """All groups of the user; empty without a separate user."""
        entry = self.entry
        return [] if entry is None else os.getgrouplist(entry.pw_name, entry.pw_gid)

    def limits(self, memory_floor_bytes: int) -> dict[str, Any]:
        """Return the limits as the warden reads them, see child/warden.py.

        Args:
            memory_floor_bytes: the trial is killed when less memory is available on the machine.
        """
        limits: dict[str, Any] = {
            "memory_floor": memory_floor_bytes,
            "memory_most": self.memory_bytes or 0,
            "processes_most": self.processes or 0,
        }
        entry = self.entry
        if entry is not None:
            limits |= {"user": entry.pw_uid, "group": entry.pw_gid, "groups": self.groups}
        return limits

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return an environment with the user's name and home, without variables of our session."""
        entry = self.entry
        if entry is None:
            return dict(base)
        kept = {name: value for name, value in base.items() if not name.startswith(_SESSION)}
        kept.pop("MAIL", None)
        own = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
        return {**kept, **own, "SHELL": entry.pw_shell}

    def prefix(self) -> list[str]:
        """Return the words that run a command by hand as the trial's user."""
        entry = self.entry
        if entry is None:
            return []
        groups = ",".join(map(str, self.groups))
        ids = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", f"--groups={groups}"]
        own = [f"{name}={value}" for name, value in self.environment({}).items()]
        return ["setpriv", *ids, "--no-new-privs", "env", *own]

    def admit(self, folder: Path, request: Path) -> None:
        """Let the trial's user read the request in a trial's folder, but write nothing there.

        Raises:
            OSError: if an owner or a mode can't be changed.
        """
        entry = self.entry
        if entry is None:
            return
        for path, mode in ((folder, 0o710), (request, 0o640)):
            os.chown(path, -1, entry.pw_gid)
            path.chmod(mode)

    def check_place(self, folder: Path, needed: Iterable[Path]) -> None:
        """Check that the user can read what a trial needs, and can't write where root writes.

        Args:
            folder: the folder of the study's files.
            needed: files and folders that a trial reads.

        Raises:
            UserError: if the user can't read one of them, or can write to the folder.
        """
        entry = self.entry
        if entry is None:
            return
        for path in (*needed, folder):
            if not self._may(path, "-x" if path.is_dir() else "-r"):
                hint = f"put it where {self.user} may read it, with all folders above it"
                raise UserError(f"--run-as {self.user}: {path} is closed to it", hint=hint)
        for path in (folder, *folder.parents):
            if path.exists() and not _keeps_others_out(path) and self._may(path, "-w"):
                hint = f"start autotune where {self.user} may not write: it writes there as root"
                raise UserError(f"--run-as {self.user}: it may write to {path}", hint=hint)

    def _may(self, path: Path, how: str) -> bool:
        """Test access as the user: access lists and mounts matter besides modes."""
        entry = self.entry
        assert entry is not None
        done = subprocess.run(
            ["/usr/bin/test", how, str(path)],
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=self.groups,
            cwd="/",
            stdin=subprocess.DEVNULL,
            timeout=_ANSWER_S,
            check=False,
        )
        return done.returncode == 0


def _keeps_others_out(folder: Path) -> bool:
    """Tell whether a folder is like /tmp, where users can't touch each other's files."""
    found = folder.stat()
    return bool(found.st_mode & stat.S_ISVTX) and found.st_uid == 0


UNCONFINED = Confinement()


def check_confinement(confinement: Confinement) -> Confinement:
    """Return the confinement if it is possible here.

    Raises:
        UserError: if there is no such user, or this process may not change its user.
    """
    user = confinement.user
    if user is None:
        return confinement
    if os.geteuid() != 0:
        hint = "start it by sudo, or leave --run-as out"
        raise UserError(f"--run-as {user}: only root may run scripts as another user", hint=hint)
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        hint = f"make one: useradd --system --create-home {user}"
        raise UserError(f"--run-as {user}: there is no such user", hint=hint) from error
    if entry.pw_uid == 0:
        raise UserError(f"--run-as {user}: that is root", hint="name a user without privileges")
    return confinement
