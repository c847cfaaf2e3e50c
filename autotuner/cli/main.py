"""The one place that turns errors into messages and exit codes.

0 done; 1 an error that the user can correct; 2 wrong usage; 3 a bug in autotune; 130 Ctrl-C;
143 SIGTERM.
"""

import errno
import io
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import typer
from typer.exceptions import Abort, Exit, TyperException

from autotuner import __version__
from autotuner.errors import UserError
from autotuner.plain import plain

_RUN_A_SCRIPT = ("run", "worker", "verify", "compare", "doctor", "submit", "exec")
_USAGE, _BUG, _INTERRUPTED, _TERMINATED = 2, 3, 130, 143


class Terminated(SystemExit):
    """SIGTERM has arrived; unwinds like KeyboardInterrupt.

    A SystemExit, because servers and other libraries propagate only Python's own BaseExceptions.
    """


def split_arguments(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Split at the first ``--`` into autotune's own arguments and the script's."""
    arguments = list(argv)
    if "--" not in arguments:
        return arguments, ()
    at = arguments.index("--")
    return arguments[:at], tuple(arguments[at + 1 :])


def _print(text: str, hint: str | None = None) -> None:
    sys.stderr.write(plain(text) + "\n")
    if hint is not None:
        sys.stderr.write(f"hint: {plain(hint)}\n")


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _report_bug(argv: Sequence[str]) -> None:
    lines = [
        f"autotune {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: autotune {' '.join(argv)}",
        traceback.format_exc(),
    ]
    descriptor, path = tempfile.mkstemp(prefix="autotune-bug-", suffix=".log")
    os.close(descriptor)
    Path(path).write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
    _print(f"bug in autotune: {sys.exception()!r}", f"please report it with this log: {path}")


def _report(error: UserError) -> int:
    sys.stderr.write(f"error: {error.message}\n")  # plain already, in one line or in several
    if error.hint is not None:
        sys.stderr.write(f"hint: {error.hint}\n")
    return 1


def _of_the_surroundings(error: Exception) -> UserError | None:
    """Return a UserError for a failure of disk or database; None for any other exception."""
    kept = "finished trials are kept; then resume: autotune run --study NAME"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return UserError(f"the disk is full{where}", hint=f"free some space; {kept}")
    if "optuna" not in sys.modules:  # the error is not a database's
        return None
    from autotuner.study.storage import database_problem

    problem = database_problem(error)
    return None if problem is None else UserError(problem, hint=f"fix that; {kept}")


def main(argv: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    from autotuner.cli.app import app

    runs_a_script = bool(argv) and argv[0] in _RUN_A_SCRIPT
    # in other commands names follow the dashes: autotune clean -- -name
    own, script_arguments = split_arguments(argv) if runs_a_script else (list(argv), ())
    signal.signal(signal.SIGTERM, _on_sigterm)
    command = typer.main.get_command(app)
    try:
        # typer returns a code for Exit and KeyboardInterrupt; our commands return None
        code: object = command.main(
            own, prog_name="autotune", standalone_mode=False, obj=script_arguments
        )
    except UserError as error:
        return _report(error)
    except Exit as ended:
        return ended.exit_code
    except TyperException as error:
        named = [word for word in own[:1] if word in getattr(command, "commands", {})]
        hint = f"see {' '.join(['autotune', *named, '--help'])}"
        if own[:1] == ["exec"]:
            hint = "a command goes after --: autotune exec best.json -- python mymodel.py"
        if error.format_message():  # empty if a lack of arguments has printed the help
            _print(f"error: {error.format_message()}", hint)
        return _USAGE
    except (KeyboardInterrupt, Abort):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not interrupt the exit
        return _INTERRUPTED
    except Terminated:
        return _TERMINATED
    except BrokenPipeError:  # `autotune list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the one boundary
        surroundings = _of_the_surroundings(error)
        if surroundings is not None:
            return _report(surroundings)
        _report_bug(argv)
        return _BUG
    return code if isinstance(code, int) else 0


def run() -> None:
    """Run the command ``autotune``."""
    for stream in (sys.stdout, sys.stderr):  # a path may hold what the terminal's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))
