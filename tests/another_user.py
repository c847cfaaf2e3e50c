"""Another user, as whom tests that run as root start processes, and an interpreter for that user.

A checkout or an interpreter in root's own home is closed to others; Debian's interpreter is not.
"""

import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOBODY = "nobody"
TREE = Path(__file__).resolve().parents[1]
IS_ROOT = os.geteuid() == 0
AS_NOBODY: dict[str, Any] = (
    {"user": NOBODY, "group": "nogroup", "extra_groups": []} if IS_ROOT else {}
)
PACKAGES = f"{TREE}:{sysconfig.get_path('purelib')}"
"""For PYTHONPATH: this interpreter's packages, for another one of the same version."""


def _runs(python: str) -> bool:
    """Return whether the user can import the packages in an interpreter."""
    try:
        done = subprocess.run(
            [python, "-c", "import sys, numpy, psutil, autotuner; print(sys.version_info[:2])"],
            cwd="/",
            env={"PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            **AS_NOBODY,
        )
    except OSError:
        return False
    return bool(done.stdout == f"{sys.version_info[:2]}\n")


_FOUND = [one for one in (sys.executable, "/usr/bin/python3") if _runs(one)]
PYTHON = Path(next(iter(_FOUND), sys.executable))
"""An interpreter that the other user can run, unless ``WHY_NOT``."""

WHY_NOT = ""
if not IS_ROOT:
    WHY_NOT = "only root can run as another user"
elif not _FOUND:
    WHY_NOT = f"{NOBODY} can't read {TREE}, or run an interpreter like {sys.executable}"


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that other users can enter.

    Pytest's own is closed to them, and every run of pytest closes it again.
    """
    with tempfile.TemporaryDirectory(prefix="autotune-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def open_up(folder: Path) -> None:
    """Let other users enter a folder of pytest's."""
    for path in (folder, *folder.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o011)
