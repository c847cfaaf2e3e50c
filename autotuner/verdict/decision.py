"""Which configuration to recommend: pure functions over records.

The luckiest trial is rarely the best configuration, and its value overstates the speed-up. So the
trials of a configuration are pooled, the best few race in new processes, and the speed-up of the
winner is estimated from final pairs only, which are new processes again.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from autotuner.knobs.knob import Configuration
from autotuner.options.study_spec import DEFAULT_MARGIN
from autotuner.statistics.machines import OnMachine, disagree, on_machines
from autotuner.statistics.sequential import Finding, Pair, StoppingRule, Verdict, find
from autotuner.study.noise import Noise
from autotuner.study.record import Role, TrialRecord, configuration_key
from autotuner.verdict.numerics import Numerics

_POOLED = (Role.DEFAULT, Role.RECIPE, Role.SCRIPT, Role.SEARCH, Role.CONTROL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration with its gain over the defaults: the geometric mean of its trials."""

    configuration: Configuration
    gain: float
    trials: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What to deploy, and why.

    ``best``: the finalist, which is the default if nothing else was measured. ``finding``: the
    result of its final pairs; None until they have been run. ``disturbed_pairs``: the number of
    pairs that were run but do not count. ``default``, ``recipe`` and ``own`` (the script's own
    settings): estimates of the search; None if not measured. ``numerics``: the result of the
    numerical guard; None if it was not run. ``strict``: configurations that change results are
    refused. ``machines``: the results by machine; empty for a single one.
    """

    best: Candidate
    default: Candidate
    recipe: Candidate | None
    own: Candidate | None
    finding: Finding | None
    final_failures: int = 0
    disturbed_pairs: int = 0
    pair_s: float | None = None
    margin: float = DEFAULT_MARGIN
    configurations: int = 0
    numerics: Numerics | None = None
    strict: bool = False
    machines: tuple[OnMachine, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether nothing but the defaults was measured."""
        return self.best.configuration == self.default.configuration

    @property
    def is_faster(self) -> bool:
        """Whether the finalist is proven to be faster."""
        return self.finding is not None and self.finding.verdict is Verdict.FASTER

    @property
    def refused(self) -> bool:
        """Whether the finalist is refused because it changes results."""
        return self.strict and self.numerics is not None and self.numerics.differs is not False

    @property
    def is_recommended(self) -> bool:
        """Whether the finalist should be deployed."""
        if self.is_default or self.final_failures:
            return False
        return self.is_faster and not self.refused

    @property
    def recommended(self) -> Candidate:
        """The configuration to deploy: the finalist if it is recommended, else the defaults."""
        return self.best if self.is_recommended else self.default

    @property
    def machines_disagree(self) -> bool:
        """Whether the finalist wins on one machine and loses on another."""
        return disagree(self.machines, self.margin)

    @property
    def verdict(self) -> Verdict:
        """The verdict in one word."""
        return Verdict.INCONCLUSIVE if self.finding is None else self.finding.verdict


def candidates(records: Sequence[TrialRecord], default: Configuration) -> list[Candidate]:
    """Return every configuration of the search that was measured."""
    groups = _by_key(records, default)
    return [c for c in (_pooled(full, groups) for full in _all(records, default)) if c]


_Groups = Mapping[str, Sequence[TrialRecord]]


def _by_key(records: Sequence[TrialRecord], default: Configuration) -> _Groups:
    """Return the records by their configuration: one pass, as a study may hold thousands."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(record.key(default), []).append(record)
    return groups


def _all(records: Sequence[TrialRecord], default: Configuration) -> list[Configuration]:
    """Return all configurations that were tried, once each."""
    tried = ({**default, **record.configuration} for record in records)
    return list({configuration_key(full): full for full in tried}.values())


def _pooled(
    configuration: Configuration, groups: _Groups, roles: Sequence[Role] = _POOLED
) -> Candidate | None:
    logs = [
        math.log(record.gain)
        for record in groups.get(configuration_key(configuration), ())
        if record.gain is not None and record.role in roles
    ]
    if not logs:
        return None
    return Candidate(
        configuration=configuration, gain=math.exp(sum(logs) / len(logs)), trials=len(logs)
    )


def _finalist(
    records: Sequence[TrialRecord],
    groups: _Groups,
    default: Configuration,
    estimate: Callable[[], Mapping[str, float]],
) -> Candidate | None:
    """Return the configuration that the final compares with the defaults.

    Once a final pair has been run, it stays the same. Before that it is the winner of the race, by
    the race's processes alone, among the configurations that stayed in the race for most rounds.
    Before the race it is the best by the model's estimate, or by its own trials where there is no
    estimate. Races and finals before the last trial of the search do not count.
    """
    since = since_search(records)
    finals = [r for r in since if r.role is Role.FINAL and r.configuration]
    if finals:
        configuration = {**default, **finals[-1].configuration}
        return _pooled(configuration, groups) or Candidate(
            configuration=configuration, gain=1.0, trials=0
        )
    lately = _by_key(since, default)
    raced = [
        c
        for c in (_pooled(full, lately, (Role.RACE,)) for full in _all(since, default))
        if c is not None and not _failed_in_race(c, lately)
    ]
    if raced:
        most = max(c.trials for c in raced)
        winner = max((c for c in raced if c.trials == most), key=lambda c: c.gain)
        return _pooled(winner.configuration, groups) or winner
    tried = (_pooled(full, groups) for full in _all(records, default))
    others = [c for c in tried if c is not None and c.configuration != default]
    known = estimate() if len(others) > 1 else {}

    def likely(candidate: Candidate) -> float:
        return known.get(configuration_key(candidate.configuration), math.log(candidate.gain))

    return max(others, key=likely, default=None)


def since_search(records: Sequence[TrialRecord]) -> Sequence[TrialRecord]:
    """Return the records after the last trial of the search that ended."""
    at = [i for i, r in enumerate(records) if r.role is Role.SEARCH and r.has_ended]
    return records[at[-1] + 1 :] if at else records


def up_to_search(records: Sequence[TrialRecord]) -> Sequence[TrialRecord]:
    """Return the records up to the last trial of the search that ended.

    The shortlist depends only on these, so a resumed race has the same entrants.
    """
    return records[: len(records) - len(since_search(records))]


def count_finals(records: Sequence[TrialRecord]) -> int:
    """Return the number of finals, each after some more search; at least 1."""
    count, in_final = 0, False
    for record in records:
        if record.role is Role.FINAL:
            count += not in_final
            in_final = True
        elif record.role is Role.SEARCH:
            in_final = False
    return max(1, count + (not in_final and count > 0))


def _failed_in_race(candidate: Candidate, groups: _Groups) -> bool:
    return any(
        r.role is Role.RACE and r.gain is None and r.has_ended
        for r in groups.get(configuration_key(candidate.configuration), ())
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baselines:
    """What a user would run without us: the defaults, the recipe, what the script sets itself."""

    default: Configuration
    recipe: Configuration
    own: Configuration | None = None


def decide(
    records: Sequence[TrialRecord],
    baselines: Baselines,
    *,
    rule: StoppingRule,
    noise: Noise | None = None,
    numerics: Numerics | None = None,
    strict: bool = False,
    estimate: Callable[[], Mapping[str, float]] = dict,
) -> Decision | None:
    """Return the decision on all records so far; None if the default was not measured.

    ``estimate`` returns a model's log gains by configuration key. It is called only if neither a
    race nor a final has settled which configuration is best.
    """
    default, own = baselines.default, baselines.own
    groups = _by_key(records, default)
    base = _pooled(default, groups)
    if base is None:
        return None
    best = _finalist(records, groups, default, estimate) or base
    since = since_search(records)
    pairs = final_pairs(since, best.configuration, default, noise)
    # workers that run pairs at the same time may slightly exceed the limit
    most = max(rule.most_pairs, len(pairs))
    rule = dataclasses.replace(rule, most_pairs=most, finals=count_finals(records))
    machines = on_machines(pairs)
    finding = find(pairs, rule)
    if finding is not None and finding.decided and disagree(machines, rule.margin):
        finding = dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE)
    return Decision(
        best=best,
        default=base,
        recipe=_pooled(baselines.recipe, groups),
        own=None if own is None else _pooled(own, groups),
        finding=finding,
        machines=machines if len(machines) > 1 else (),
        configurations=len(_all(records, default)),
        final_failures=final_failures(since, best.configuration, default),
        disturbed_pairs=len(final_pairs(since, best.configuration, default, None)) - len(pairs),
        pair_s=_pair_s(since),
        margin=rule.margin,
        numerics=numerics if _is_about(numerics, best) else None,
        strict=strict,
    )


def _is_about(numerics: Numerics | None, best: Candidate) -> bool:
    """Return whether the guard checked this finalist: a later final may have another one."""
    return numerics is not None and numerics.about == configuration_key(best.configuration)


def final_failures(
    records: Sequence[TrialRecord], configuration: Configuration, default: Configuration
) -> int:
    """Return the number of final pairs in which a configuration failed."""
    key = configuration_key(configuration)
    return sum(
        record.role is Role.FINAL
        and record.gain is None
        and bool(record.configuration)
        and record.has_ended
        and record.key(default) == key
        for record in records
    )


def final_pairs(
    records: Sequence[TrialRecord],
    configuration: Configuration,
    default: Configuration,
    noise: Noise | None,
) -> list[Pair]:
    """Return a configuration's complete final pairs, in their order.

    A pair does not count if other processes used clearly more of the machine than during the noise
    check, as the faster side may depend on that. Without a noise check all pairs count.
    """
    key = configuration_key(configuration)
    defaults = {r.pair: r.number for r in records if r.pair is not None and not r.configuration}
    return [
        Pair(
            math.log(record.gain),
            first=record.number < defaults[record.pair],
            machine=record.machine,
        )
        for record in records
        if record.role is Role.FINAL
        and record.gain is not None
        and record.configuration
        and record.pair in defaults
        and record.key(default) == key
        and not (noise is not None and noise.is_disturbed(record.others_cores))
    ]


def counted_pairs(
    records: Sequence[TrialRecord],
    decision: Decision,
    default: Configuration,
    noise: Noise | None,
) -> list[Pair]:
    """Return the pairs behind a decision's finding, in their order."""
    since = since_search(records)
    return final_pairs(since, decision.best.configuration, default, noise)


def _pair_s(records: Sequence[TrialRecord]) -> float | None:
    """Return the mean duration of a final pair, in seconds."""
    pairs: dict[int, float] = {}
    for record in records:
        if record.pair is not None:
            pairs[record.pair] = max(pairs.get(record.pair, 0.0), record.elapsed_s)
    return sum(pairs.values()) / len(pairs) if pairs else None
