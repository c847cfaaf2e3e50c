"""What is written of a decision."""

import dataclasses

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import Objective
from autotuner.statistics.machines import OnMachine
from autotuner.statistics.sequential import Finding, Verdict
from autotuner.verdict.numerics import Numerics
from autotuner.verdict.payback import payback
from autotuner.verdict.sentences import brief, further_sentences, sentence, what_it_takes
from tests.unit.results import FAST, FASTER, a_decision

DEFAULT: Configuration = {"intra_op": 4, "onednn": "1"}
PROVEN = a_decision(FAST, DEFAULT)
OPEN = Finding(verdict=Verdict.INCONCLUSIVE, ratio=1.02, low=0.97, high=1.08, pairs=8, needed=20)


def of(finding: Finding | None, **fields: object) -> str:
    """Return the sentence on a finding."""
    decision = dataclasses.replace(PROVEN, finding=finding, **fields)  # type: ignore[arg-type]
    return sentence(decision, Objective.THROUGHPUT)


def test_a_proven_gain() -> None:
    """Its ratio, its interval and its pairs, and no advice to keep the defaults."""
    text = of(FASTER)
    assert text.startswith("FASTER: 1.25x the default's throughput (")
    assert "interval 1.20x to 1.30x, 5 pairs of new processes)" in text
    assert "Keep the defaults" not in text
    assert "as quick as the default in the p99" in sentence(PROVEN, Objective.LATENCY_P99)


@pytest.mark.parametrize(
    ("finding", "fields", "part"),
    [
        (dataclasses.replace(FASTER, verdict=Verdict.NO_DIFFERENCE), {}, "all within 3%"),
        (dataclasses.replace(FASTER, verdict=Verdict.SLOWER), {}, "SLOWER"),
        (OPEN, {"pair_s": 10.0}, "about 12 more pairs would decide, 2 min"),
        (None, {}, "has not yet met the defaults"),
        (FASTER, {"final_failures": 1}, "failed in a new process"),
        (FASTER, {"best": PROVEN.default, "configurations": 1}, "nothing to compare"),
        (FASTER, {"best": PROVEN.default}, "no configuration but the defaults"),
        (
            FASTER,
            {"strict": True, "numerics": Numerics(differs=True, text="")},
            "--strict-numerics",
        ),
    ],
)
def test_whatever_is_not_proven_is_not_recommended(
    finding: Finding | None, fields: dict[str, object], part: str
) -> None:
    """And the sentence gives the reason."""
    text = of(finding, **fields)
    assert part in text
    decision = dataclasses.replace(PROVEN, finding=finding, **fields)  # type: ignore[arg-type]
    assert not decision.is_recommended


def test_what_would_decide() -> None:
    """Pairs and their time; beyond reason a quieter machine."""
    assert what_it_takes(OPEN, None) == "about 12 more pairs would decide"
    far = dataclasses.replace(OPEN, needed=400)
    assert what_it_takes(far, 10.0).endswith("a quieter machine is needed")
    near = dataclasses.replace(OPEN, needed=9)
    assert what_it_takes(near, None) == "about 1 more pair would decide"


def test_in_a_few_words() -> None:
    """For lists of studies."""
    assert brief(PROVEN) == "FASTER 1.25x"
    assert brief(dataclasses.replace(PROVEN, finding=OPEN)).endswith("1.02x, defaults kept")
    assert brief(dataclasses.replace(PROVEN, finding=None)) == "1.30x, not confirmed"
    assert brief(dataclasses.replace(PROVEN, best=PROVEN.default)) == "defaults"


def test_further_sentences() -> None:
    """Machines, numerics, break-even and disturbed pairs, where there are any."""
    assert list(further_sentences(PROVEN, None)) == []
    machine = OnMachine(machine="a", ratio=1.2, low=1.1, high=1.3, pairs=4)
    full = dataclasses.replace(
        PROVEN,
        machines=(machine, dataclasses.replace(machine, machine="b", low=None, pairs=1)),
        numerics=Numerics(differs=False, text="the same"),
        disturbed_pairs=2,
    )
    machines, numerics, even, disturbed = further_sentences(full, payback(600, 1.25))
    assert machines == (
        "by machine: a 1.20x (95% interval 1.10x to 1.30x, 4 pairs); b 1.20x (1 pair)."
    )
    assert numerics == "numerics: the same."
    assert "after 50 min" in even
    assert disturbed.startswith(
        "disturbed: other processes used the CPU during 2 pairs of the final"
    )
