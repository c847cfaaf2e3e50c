"""The knobs that a study searches, and the effective values of a configuration."""

from collections.abc import Iterable, Mapping, Sequence

from autotuner.errors import UserError, did_you_mean
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Configuration, Group, Tier
from autotuner.knobs.liveness import KnobState, Liveness

EVERYTHING = "all"


def select_knobs(
    names: Sequence[str], liveness: Mapping[str, Liveness] | None = None
) -> tuple[str, ...]:
    """Return the names of the knobs to search, in the catalogue's order.

    Args:
        names: knobs, groups and tiers; empty means the tier "safe". A named knob is searched even
            if it is inert. "all" selects every knob, inert ones included, except the tier
            "numerics". A group or a tier selects its knobs that are not inert; a group leaves out
            the tier "numerics" as well.
        liveness: the state of each knob; None: not known, no knob counts as inert.

    Raises:
        UserError: for an unknown name.
    """
    check_knob_names(names)
    wanted = set()
    for name, knob in KNOBS.items():
        state = liveness[name].state if liveness and name in liveness else KnobState.UNKNOWN
        by_group = knob.group.value in names and knob.tier is not Tier.NUMERICS
        by_tier = knob.tier.value in names or (not names and knob.tier is Tier.SAFE)
        forced = name in names or (EVERYTHING in names and knob.tier is not Tier.NUMERICS)
        if forced or ((by_group or by_tier) and state is not KnobState.INERT):
            wanted.add(name)
    return tuple(name for name in KNOBS if name in wanted)


def known_names() -> list[str]:
    """Return every name that selects knobs: knobs, groups and tiers."""
    return [*KNOBS, *(g.value for g in Group), *(t.value for t in Tier), EVERYTHING]


def check_knob_names(names: Iterable[str], where: str = "--knobs") -> None:
    """Raise UserError for the first name that is no knob, group or tier."""
    known = known_names()
    for name in names:
        if name not in known:
            raise UserError(f'{where}: unknown knob "{name}"', hint=did_you_mean(name, known))


def effective(configuration: Configuration, default: Configuration) -> Configuration:
    """Return the effective values: a knob whose condition is not met is at its default.

    For example, OMP_NUM_THREADS sizes oneDNN's pool on OpenMP builds: with oneDNN off it is inert.
    """
    found = dict(configuration)
    for name in configuration:
        if KNOBS[name].needs:
            other, *values = KNOBS[name].needs
            if str(configuration.get(other, values[0])) not in values:
                found[name] = default[name]
    return found
