"""A real Slurm with two nodes, both on this machine; without authentication, as one user."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

AVAILABLE = os.geteuid() == 0 and bool(shutil.which("slurmctld") and shutil.which("slurmd"))
_PATIENCE_S = 120
_UNFINISHED = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"}


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def settings(folder: Path) -> str:
    """Return a ``slurm.conf`` whose state is in a folder."""
    host = socket.gethostname()
    nodes = [
        f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=1\n"
        for number in range(2)
    ]
    return (
        f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={free_port()}\n"
        "SlurmUser=root\nSlurmdUser=root\nAuthType=auth/none\nCredType=cred/none\n"
        f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/%n\nMessageTimeout=10\n"
        f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/%n.pid\n"
        "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\n"
        "JobAcctGatherType=jobacct_gather/none\nSelectType=select/cons_tres\n"
        "SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1\n"
        f"{''.join(nodes)}PartitionName=test Nodes=n[0-1] Default=YES\n"
    )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Mapping[str, str]]:
    """Run the daemons while the context lasts; yield the environment of Slurm's commands."""
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(settings(folder))
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    commands = [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n0"], ["slurmd", "-D", "-N", "n1"]]
    with (folder / "daemons.log").open("wb") as log, contextlib.ExitStack() as stack:
        for command in commands:
            daemon = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            stack.callback(daemon.wait, timeout=60)
            stack.callback(daemon.terminate)
        deadline = time.monotonic() + _PATIENCE_S
        idle = ("sinfo", "--noheader", "--states=idle", "--format=%D")
        while _output(environment, *idle).strip() != "2":
            assert time.monotonic() < deadline, (folder / "daemons.log").read_text()
            time.sleep(0.2)
        yield environment


def wait_for_job(environment: Mapping[str, str], job: str) -> None:
    """Wait until all tasks of a job have completed."""
    deadline, states = time.monotonic() + _PATIENCE_S, _UNFINISHED
    while states & _UNFINISHED:
        assert time.monotonic() < deadline, states
        time.sleep(0.2)
        shown = _output(environment, "scontrol", "show", "job", "--oneliner", job)
        states = {word.partition("=")[2] for word in shown.split() if word.startswith("JobState=")}
    assert states == {"COMPLETED"}, shown


def _output(environment: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    return done.stdout
