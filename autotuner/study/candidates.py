"""What a search tries first, by the bottleneck of a step. The sampler continues from there."""

from collections.abc import Sequence

from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Configuration, Domain, IntRange, KnobValue
from autotuner.knobs.selection import effective
from autotuner.study.diagnosis import Bottleneck
from autotuner.study.space import Space
from autotuner.study.study_facts import StudyFacts

_MOST, _ALL = "the largest number", "the largest value"
# values by knob; knobs that the study does not search are left out
_FIRST: dict[Bottleneck, tuple[dict[str, KnobValue], ...]] = {
    # more calls than CPUs act as a buffer before the training step (docs/knobs.md)
    Bottleneck.INPUT: (
        {"map_parallelism": _MOST, "interleave_parallelism": _MOST, "intra_op": 1},
        {
            "map_parallelism": "AUTOTUNE",
            "interleave_parallelism": "AUTOTUNE",
            "batch_parallelism": "AUTOTUNE",
            "prefetch_depth": "AUTOTUNE",
        },
        {"map_parallelism": _MOST, "prefetch_depth": "4", "data_autotune": "0"},
    ),
    Bottleneck.COMPUTE: (
        {"inter_op": 1, "omp_num_threads": _ALL, "kmp_blocktime": "0"},
        {"inter_op": 1, "data_autotune": "0"},
        {"onednn": "0"},
    ),
    # in short steps, waking threads and background tuning cost more than they gain
    Bottleneck.OVERHEAD: (
        {"intra_op": 1, "inter_op": 1, "omp_num_threads": 1, "kmp_blocktime": "0"},
        {"data_autotune": "0"},
        {"steps_per_execution": "16"},
    ),
    Bottleneck.UNKNOWN: ({"inter_op": 1, "kmp_blocktime": "0"},),
}


def first_candidates(bottleneck: Bottleneck, space: Space) -> Sequence[Configuration]:
    """Return distinct full configurations to try first, the most promising one first."""
    found: list[Configuration] = []
    for asked in _FIRST[bottleneck]:
        full = {name: _inside(value, space.domains[name]) for name, value in space.default.items()}
        for name, wanted in asked.items():
            value = _value(name, wanted, space)
            if value is not None:
                full[name] = value
        candidate = effective(full, space.default)
        if space.holds(candidate) and candidate not in (space.default, *found):
            found.append(candidate)
    return found


def _inside(value: KnobValue, domain: Domain) -> KnobValue:
    """Return a default clipped to its domain: under a quota it may exceed the largest value."""
    return domain.high if isinstance(domain, IntRange) and value not in domain else value


def _value(name: str, wanted: KnobValue, space: Space) -> KnobValue | None:
    """Return the wanted value as the space has it, or None if the space has no such value."""
    domain = space.domains.get(name)
    if domain is None:
        return None
    if isinstance(domain, IntRange):
        return domain.high if wanted == _ALL else wanted if wanted in domain else None
    if wanted == _MOST:
        numbers = [option for option in domain.options if option.isdecimal()]
        return max(numbers, key=int, default=None)
    return wanted if wanted in domain else None


def own_configuration(facts: StudyFacts) -> Configuration | None:
    """Return what the script itself sets by code or environment, if that is in the space."""
    own: dict[str, KnobValue] = {}
    by_variable = {knob.variable: name for name, knob in KNOBS.items()}
    for notice in facts.notices:
        name = by_variable.get(notice.knob or "", notice.knob)
        if notice.kind == "override" and name in facts.space.domains and notice.value:
            is_number = isinstance(facts.space.default[name], int) and notice.value.isdecimal()
            own[name] = int(notice.value) if is_number else notice.value
    full = {**facts.space.default, **own}
    return full if own and facts.space.holds(full) else None
