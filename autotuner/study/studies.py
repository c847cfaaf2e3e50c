"""Making a study, or opening one that exists."""

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autotuner.errors import UserError, did_you_mean
from autotuner.options.study_spec import Objective
from autotuner.statistics.throughput import less_is_better
from autotuner.study.facts import StudyFacts
from autotuner.study.identity import Identity
from autotuner.study.memory import FACTS, SPEC, Memory
from autotuner.study.workers import is_alive, living

Study = optuna.Study
"""What the later stages call a study: they do not import Optuna themselves."""


def reusable_name(storage: BaseStorage, wanted: str) -> str:
    """Return the name, or the name with the first number that no study of substance has.

    A study in which nothing was measured and that nobody runs is taken over.
    """
    taken = set(optuna.get_all_study_names(storage))
    candidates = (wanted, *(f"{wanted}-{i}" for i in range(2, len(taken) + 3)))
    return next(n for n in candidates if n not in taken or _is_empty(load_study(storage, n)))


def _is_empty(study: optuna.Study) -> bool:
    memory = Memory(study)
    empty = memory.read(SPEC) is not None and memory.read(FACTS) is None
    return empty and is_idle(study)


def is_idle(study: optuna.Study) -> bool:
    """Tell whether no living process works on this study."""
    attributes = study.user_attrs
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    owners = (trial.user_attrs.get("owner", "") for trial in running)
    return not living(attributes) and not any(is_alive(one, attributes) for one in owners)


def create_study(storage: BaseStorage, name: str, objective: Objective) -> optuna.Study:
    """Make a study of an objective; without a pruner, as noise fools them all."""
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="minimize" if less_is_better(objective) else "maximize",
        pruner=optuna.pruners.NopPruner(),
    )


def load_study(storage: BaseStorage, name: str) -> optuna.Study:
    """Open a study that exists.

    Raises:
        UserError: if there is none of that name.
    """
    names = optuna.get_all_study_names(storage)
    if name not in names:
        hint = did_you_mean(name, names) if names else "there are no studies yet: autotune run"
        raise UserError(f'unknown study "{name}"', hint=hint)
    return optuna.load_study(study_name=name, storage=storage, pruner=optuna.pruners.NopPruner())


def load_facts(study: optuna.Study) -> StudyFacts:
    """Return a study's facts.

    Raises:
        UserError: if the study has none, because it was not made by autotune or its default failed.
    """
    facts = Memory(study).read(FACTS)
    if facts is None:
        hint = f"run it: autotune run --study {study.study_name} --model ..."
        raise UserError(f'study "{study.study_name}": nothing was measured yet', hint=hint)
    return facts


def changes_since(study: optuna.Study, identity: Identity, knobs: tuple[str, ...]) -> list[str]:
    """Return what is another than when the study was made, a line each.

    Args:
        study: a study that may have been measured or not.
        identity: of what is to be run now.
        knobs: what is to be searched now.
    """
    memory = Memory(study)
    facts, spec = memory.read(FACTS), memory.read(SPEC)
    if facts is None or spec is None:
        return []
    lines = facts.identity.differences(identity)
    if spec.knobs != knobs:
        before, now = (", ".join(names) or "safe" for names in (spec.knobs, knobs))
        lines.append(f"knobs: {before} in the study, now {now}")
    return lines


def matching_name(
    storage: BaseStorage, wanted: str, identity: Identity, knobs: tuple[str, ...]
) -> tuple[str, list[str]]:
    """Return the name under which to go on or to begin, and why it is not the wanted one.

    That is the wanted name, unless its study was made of something else; then the first with a
    number that is free or was made of the same. So the same command always finds the same study.
    """
    taken = set(optuna.get_all_study_names(storage))
    why: list[str] = []
    for name in (wanted, *(f"{wanted}-{i}" for i in range(2, len(taken) + 3))):
        changes = changes_since(load_study(storage, name), identity, knobs) if name in taken else []
        if not changes:
            return name, why
        why = why or changes
    raise RuntimeError("there is always a free name")
