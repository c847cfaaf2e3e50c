"""The folder of a trial: its files, the script that repeats it, and the end of its log."""

import json
import shutil
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from autotuner.errors import UserError
from autotuner.trial.folder import (
    check_disk,
    child_argv,
    last_lines,
    prepare_folder,
    repro_script,
)
from autotuner.trial.request import CHILD_MAIN, TrialRequest


def request(directory: Path, **fields: object) -> TrialRequest:
    return TrialRequest(
        script=directory / "train.py",
        python=Path("/usr/bin/python"),
        working_directory=directory,
        **fields,  # type: ignore[arg-type]
    )


def test_the_folder_holds_the_request_and_what_repeats_it(tmp_path: Path) -> None:
    """Other users can't read it: arguments may be secrets."""
    folder = tmp_path / "trials" / "0007"
    prepare_folder(folder, request(tmp_path, arguments=("--key", "x y"), configuration={}))
    assert sorted(file.name for file in folder.iterdir()) == ["repro.sh", "request.json"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    written = json.loads((folder / "request.json").read_text())
    assert written["arguments"] == ["--key", "x y"]
    assert written["script"] == str(tmp_path / "train.py")


def test_a_folder_that_can_t_be_made(tmp_path: Path) -> None:
    """The message names the folder and the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written: Not a directory"):
        prepare_folder(tmp_path / "file" / "trial", request(tmp_path))


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a folder that does not exist yet; with space left nothing is raised."""
    check_disk(tmp_path / "not" / "yet")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(UserError, match="the disk is full"):
        check_disk(tmp_path / "not" / "yet")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the disk is full"):
        prepare_folder(tmp_path / "file" / "trial", request(tmp_path))


def test_the_command_line_of_a_child() -> None:
    argv = child_argv(Path("/t"), request(Path("/w")), 5, 6)
    assert argv == ["/usr/bin/python", str(CHILD_MAIN), "/t/request.json", "5", "6"]


def test_repro_sh_sets_what_the_trial_sets(tmp_path: Path) -> None:
    """A shell takes names with spaces and quotes; knobs that the trial leaves alone are unset."""
    directory = tmp_path / "it's here"
    directory.mkdir()
    shows = tmp_path / "python"
    shows.write_text('#!/bin/sh\npwd\necho "$@"\nenv\n')
    shows.chmod(0o755)
    asked = request(
        directory, configuration={"inter_op": 2}, environment=(("DATA", "a 'b' $(touch hacked)"),)
    )
    folder = tmp_path / "trial"
    folder.mkdir()
    text = repro_script(folder, asked).replace("/usr/bin/python", str(shows))
    done = subprocess.run(
        ["sh", "-c", text],
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "17", "TF_NUM_INTRAOP_THREADS": "9"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == str(directory)
    assert lines[1].endswith(f"{folder}/request.json 3")
    assert "TF_NUM_INTEROP_THREADS=2" in lines
    assert "DATA=a 'b' $(touch hacked)" in lines
    assert not any(line.startswith(("OMP_NUM_THREADS", "TF_NUM_INTRAOP")) for line in lines)
    assert (folder / "events.repro.jsonl").exists()
    assert not list(tmp_path.rglob("hacked"))


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    """Five that are not empty, without colours and control characters; \\r ends a line, too."""
    log = tmp_path / "output.log"
    log.write_bytes(
        b"first\n\n2\n3\n10%\r20%\r\n\x1b[31mred\x1b[0m\n\x07bell\n" + b"x" * 1000 + b"\n\xff\n\n"
    )
    lines = last_lines(log)
    assert lines == ("20%", "red", "bell", "x" * 300, "\ufffd")
    assert last_lines(tmp_path / "none") == ()


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_text("line\n" * 1_000_000 + "the end\n")
    assert last_lines(log) == ("line",) * 4 + ("the end",)
