"""A machine on which the commands of the recipes in deploy/ run, as in their containers."""

import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from autotuner.study.record import read_records
from autotuner.study.storage import open_database
from autotuner.study.studies import load_study
from autotuner.testing import postgres
from tests.another_user import AS_NOBODY, NOBODY, PACKAGES, PYTHON, WHY_NOT
from tests.commands import BRIEF, SCRIPT, STUB
from tests.processes import left_of

PASSWORD = "letters4and4digits"  # of the test's own server
PATIENCE_S = 120

# added to `autotune run`, for whose usual budget there is no time
QUICK = (
    *("--effort", "fast", "--trials", "2", *BRIEF, "--pairs", "1"),
    *("--knobs", "intra_op,kernels", "--sequential"),
)


class Site:
    """A machine on which a recipe's commands run, not as root, as in its containers."""

    def __init__(self, folder: Path, server: postgres.Server) -> None:
        self.folder, self.models, self.work = folder, folder / "models", folder / "work"
        self.bin = folder / "bin"
        self.mark = uuid.uuid4().hex
        self.port = server.port
        self.url = f"postgresql://tuner:{PASSWORD}@127.0.0.1:{self.port}/autotune"
        self._started: list[subprocess.Popen[str]] = []
        for path in (self.models, self.work, self.bin):
            path.mkdir()
        (self.models / "train.py").write_text(SCRIPT)
        # what the image's ENTRYPOINT names; only the time of a study differs
        command = self.bin / "autotune"
        command.write_text(
            "#!/bin/sh\ncommand=$1\nshift\n"
            f'[ "$command" = run ] && set -- {" ".join(QUICK)} "$@"\n'
            f'exec {PYTHON} -m autotuner "$command" "$@"\n'
        )
        command.chmod(0o755)
        (self.bin / "python").symlink_to(PYTHON)
        # where other users can't read root's interpreter and checkout, it has to be root
        self._user = {} if WHY_NOT else AS_NOBODY
        if self._user:
            shutil.chown(self.work, NOBODY)

    def here(self, text: str) -> str:
        """Return a text of a recipe with this machine's folders and port."""
        places = {
            "/home/tuner/models": str(self.models),
            "/home/tuner/work": str(self.work),
            "/models": str(self.models),
            "@autotune-db:5432": f"@127.0.0.1:{self.port}",
            ":5432": f":{self.port}",
        }
        for there, here in places.items():
            if there in text and here not in text:
                text = text.replace(there, here)
        return text

    def start(
        self, words: list[str], environment: Mapping[str, str], *, log: str
    ) -> "subprocess.Popen[str]":
        """Start a command line of a recipe, in an environment that is built for it."""
        variables = {name: self.here(str(value)) for name, value in environment.items()}
        own = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "PYTHONPATH": f"{STUB}:{PACKAGES}",
            "MARK": self.mark,
            "AUTOTUNE_LOCK": str(self.work / "lock"),
        }
        with (self.folder / f"{log}.log").open("wb") as output:
            process = subprocess.Popen(
                [self.here(word) for word in words],
                cwd=self.work,
                env={**own, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                **self._user,
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> str:
        """Return what a command has written so far."""
        return (self.folder / f"{name}.log").read_text()

    def end(self, log: str, process: "subprocess.Popen[str]") -> None:
        """Wait for a command's regular end."""
        assert process.wait(timeout=PATIENCE_S) == 0, self.log(log)

    def until(self, log: str, process: "subprocess.Popen[str]", text: str) -> None:
        """Wait until a command has written something."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.log(log):
            assert process.poll() is None, self.log(log)
            assert time.monotonic() < deadline, self.log(log)
            time.sleep(0.05)

    def check(self, study: str) -> None:
        """Check that nothing runs any more, and that the study has come to its end."""
        assert left_of(self.mark) == []
        storage = open_database(self.url, create=False)
        records = read_records(load_study(storage, study).get_trials(deepcopy=False))
        storage.remove_session()
        storage.engine.dispose()
        assert all(not record.is_running for record in records)
        assert {record.role.value for record in records if record.counts} >= {"default", "final"}

    def close(self) -> None:
        """Kill what is left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
