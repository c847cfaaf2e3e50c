"""Which settings take effect, read back in a fresh process that is started like by ``exec``."""

import dataclasses
import enum
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotuner.codec import from_json
from autotuner.errors import UserError
from autotuner.exec.command import prepare
from autotuner.export.exported import Exported, build_differences, machine_differences
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import AS_WRITTEN, Build, KnobValue
from autotuner.machine.host import Machine, cpu_list
from autotuner.trial.folder import last_lines
from autotuner.trial.outcome import ScriptFacts
from autotuner.trial.probe import OneDnnLines, read_onednn
from autotuner.trial.supervised import die_with_parent

_READ_BACK = Path(__file__).resolve().parents[1] / "child" / "drivers" / "read_back.py"
_MARK = "AUTOTUNE_READ_BACK "
_LONGEST_S = 300.0


class Effect(enum.StrEnum):
    """The effect of a setting."""

    TAKEN = "took effect"
    NONE = "NO EFFECT"
    UNSEEN = "can't be read back"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadBack:
    """A knob, the value it was set to, the value found, and how it was found."""

    knob: str
    wanted: KnobValue
    found: str | None
    effect: Effect
    how: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """The differences of machine and TensorFlow from the file's, and the effect of each setting."""

    differences: tuple[str, ...]
    effects: tuple[ReadBack, ...]
    build: Build


def check(exported: Exported, machine: Machine, python: Path, base: Mapping[str, str]) -> Checked:
    """Start a fresh process with the configuration and read its settings back.

    Raises:
        UserError: if the process fails, as when TensorFlow can't be imported.
    """
    wanted = {
        name: value
        for name, value in exported.configuration.items()
        if value not in (AS_WRITTEN, KNOBS[name].unset)
    }
    text = _run(exported, wanted, python, base)
    document = json.loads(text.rpartition(_MARK)[2].splitlines()[0])
    onednn = read_onednn(text)
    facts: ScriptFacts = from_json(ScriptFacts, document["facts"])
    return Checked(
        differences=(
            *machine_differences(exported, machine),
            *build_differences(exported, facts.build),
        ),
        effects=tuple(_effect(name, v, document["read"], onednn) for name, v in wanted.items()),
        build=facts.build,
    )


def _run(
    exported: Exported, wanted: Mapping[str, KnobValue], python: Path, base: Mapping[str, str]
) -> str:
    launch = prepare(exported, base, force=True)
    environment = {**launch.environment, "ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}

    def bind() -> None:
        die_with_parent()
        if launch.cpus is not None:
            os.sched_setaffinity(0, launch.cpus)

    with tempfile.TemporaryDirectory(prefix="autotune-check-") as folder:
        log = Path(folder) / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), str(_READ_BACK), json.dumps(wanted)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=bind,  # noqa: PLW1509 - there are no threads in this process
            )
            try:
                code = process.wait(timeout=_LONGEST_S)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        text = log.read_text(encoding="utf-8", errors="replace")
        if code != 0 or _MARK not in text:
            lines = "".join(f"\n    {line}" for line in last_lines(log))
            how = f"ended with {code}" if code is not None else f"hung for {_LONGEST_S:g} s"
            hint = "--python names the interpreter that runs your script; TensorFlow must be there"
            raise UserError(f"the process that reads the settings back {how}:{lines}", hint=hint)
    return text


def _effect(name: str, wanted: KnobValue, read: Mapping[str, Any], onednn: OneDnnLines) -> ReadBack:
    found, how = _found(name, read, onednn)
    if name == "kmp_affinity" and found is not None:
        same = (found == "pinned") == (wanted != "none")
    elif name == "malloc_arenas" and found is not None:
        same = int(found) <= int(wanted)
    else:
        same = str(wanted) == found
    effect = Effect.UNSEEN if how is None else Effect.TAKEN if same else Effect.NONE
    unseen = f"TensorFlow does not report it; {KNOBS[name].variable} is set"
    return ReadBack(knob=name, wanted=wanted, found=found, effect=effect, how=how or unseen)


def _found(
    name: str, read: Mapping[str, Any], onednn: OneDnnLines
) -> tuple[str | None, str | None]:
    """Return the value found and how it was found; None and None if it can't be read back."""
    if name == "onednn_isa":
        wide = None if onednn.isa is None else "AVX512_CORE" if "512" in onednn.isa else "AVX2"
        return wide, f"oneDNN's verbose lines: {onednn.isa}"
    if name == "fpmath":
        return ("BF16" if onednn.bf16 else "STRICT"), "attributes in oneDNN's verbose lines"
    if name not in read:
        return None, None
    value, how = read[name]
    if isinstance(value, list):
        return cpu_list(value), how
    return None if value is None else str(value), how
