"""``autotune dashboard`` as users start it, in a process of its own."""

import os
import re
from pathlib import Path

from tests.forked import TREE, ForkedCommand


class Served:
    """``autotune dashboard`` as users start it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = ForkedCommand(
            ["dashboard", "--port", "0", *arguments],
            cwd=folder,
            env=os.environ | {"AUTOTUNE_DASHBOARD_TOKEN": "", "PYTHONPATH": str(TREE)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, line
        self.url = found[0].rstrip("/")

    def close(self) -> int:
        """End it as Ctrl-C does."""
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(timeout=60)
