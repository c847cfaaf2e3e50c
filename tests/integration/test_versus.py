"""``autotune verify`` and ``compare`` on a simulated machine that other processes use, too."""

import math
from pathlib import Path

import pytest

from autotuner.knobs.knob import Configuration
from autotuner.stages.loop import repeat
from autotuner.stages.once import once
from autotuner.stages.prepare import DEFAULTS, NOISE_CHECK
from autotuner.stages.versus import Versus
from autotuner.statistics.sequential import Finding, StoppingRule, Verdict
from autotuner.testing.simulated import SimulatedRunner
from tests.fakes import Bench, threads_matter

RULE = StoppingRule(most_pairs=4, margin=0.03)
FAST: Configuration = {"intra_op": 2, "onednn": "0"}
PAIR_S = 20.0


class Neighbour:
    """A process that uses a CPU for some seconds, from some seconds after the noise check."""

    def __init__(self, begins_s: float, lasts_s: float) -> None:
        self.begins_s = begins_s
        self.lasts_s = lasts_s
        self.checked = math.inf

    def cores(self, now: float) -> float:
        """Return the number of CPUs that it uses."""
        begins = self.begins_s + (0.0 if math.isinf(self.begins_s) else self.checked)
        return 1.0 if begins <= now < begins + self.lasts_s else 0.0


def versus(folder: Path, neighbour: Neighbour) -> tuple[Finding | None, str, int]:
    """Return the finding, the problem, and the number of pairs."""
    runner = SimulatedRunner(
        threads_matter, process=0.005, trial_s=PAIR_S / 2, others=neighbour.cores
    )
    session = Bench(folder).session(runner, trials=1, knobs=tuple(FAST))
    once(session, DEFAULTS)
    once(session, NOISE_CHECK)
    neighbour.checked = runner.now
    before = runner.duels
    stage = Versus(configuration=FAST, against={}, rule=RULE)
    repeat(session, stage)
    known = session.known()
    return stage.finding(known), stage.problem(known), runner.duels - before


QUIET = Neighbour(math.inf, 0.0)
ALWAYS = Neighbour(-math.inf, math.inf)


@pytest.mark.parametrize("neighbour", [QUIET, ALWAYS], ids=["quiet", "busy all the time"])
def test_a_steady_load_is_part_of_the_machine(tmp_path: Path, neighbour: Neighbour) -> None:
    """Four pairs decide, even if a neighbour keeps a CPU busy from beginning to end."""
    finding, problem, pairs = versus(tmp_path, neighbour)
    assert finding is not None
    assert finding.verdict is Verdict.FASTER
    assert finding.ratio == pytest.approx(1.32, rel=0.03)
    assert (problem, pairs) == ("", 4)


def test_disturbed_pairs_are_repeated(tmp_path: Path) -> None:
    """Pairs do not count if other processes used clearly more CPUs than before."""
    finding, problem, pairs = versus(tmp_path, Neighbour(PAIR_S, 2 * PAIR_S))
    assert finding is not None
    assert finding.verdict is Verdict.FASTER
    assert (finding.pairs, problem) == (4, "")
    assert pairs == 6


def test_a_machine_that_is_disturbed_all_the_time(tmp_path: Path) -> None:
    """After twice as many pairs the comparison is given up, with the reason."""
    finding, problem, pairs = versus(tmp_path, Neighbour(0.0, math.inf))
    assert finding is None
    assert problem == "other processes used the CPU all the time"
    assert pairs == 8
