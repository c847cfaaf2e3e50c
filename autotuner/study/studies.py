"""Making studies, and opening existing ones."""

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autotuner.errors import UserError, did_you_mean
from autotuner.options.names import numbered
from autotuner.options.study_spec import Objective, StudySpec
from autotuner.statistics.throughput import less_is_better
from autotuner.study.bulk import read_names
from autotuner.study.elapsed import begin_run
from autotuner.study.identity import Identity
from autotuner.study.memory import FACTS, SPEC, Memory
from autotuner.study.queue_store import visible
from autotuner.study.study_facts import StudyFacts
from autotuner.study.workers import is_alive, living

Study = optuna.Study
"""The name of Optuna's type for stages that do not import Optuna."""


def reusable_name(storage: BaseStorage, wanted: str) -> str:
    """Return the wanted name, or the name with the first number that is free.

    The name of a study without measurements that no process runs is free as well.
    """
    taken = set(study_names(storage))
    candidates = (wanted, *(numbered(wanted, i) for i in range(2, len(taken) + 3)))
    return next(n for n in candidates if n not in taken or _is_empty(load_study(storage, n)))


def _is_empty(study: optuna.Study) -> bool:
    memory = Memory(study)
    empty = memory.read(SPEC) is not None and memory.read(FACTS) is None
    return empty and is_idle(study)


def is_idle(study: optuna.Study) -> bool:
    """Return whether no living process works on this study."""
    attributes = study.user_attrs
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    owners = (trial.user_attrs.get("owner", "") for trial in running)
    return not living(attributes) and not any(is_alive(one, attributes) for one in owners)


def study_names(storage: BaseStorage) -> list[str]:
    """Return the names of all studies of a storage, the oldest first."""
    return read_names(storage)


def remove_study(storage: BaseStorage, name: str) -> None:
    """Remove a study and its trials from a storage."""
    optuna.delete_study(study_name=name, storage=storage)


def begin_study(storage: BaseStorage, name: str, spec: StudySpec) -> tuple[Study, float]:
    """Make a study or open it for a run.

    Returns:
        the study, and the seconds that its run used before it was interrupted.

    Raises:
        UserError: if another process runs it.
    """
    names = study_names(storage)
    if name in names and _is_useless(load_study(storage, name), spec):
        remove_study(storage, name)
        names.remove(name)
    if name not in names:
        study = create_study(storage, name, spec.objective)
    else:
        study = load_study(storage, name)
        if not is_idle(study):
            hint = "wait for it, or give --study another name; autotune worker joins it"
            raise UserError(f'study "{name}" is being run by another autotune', hint=hint)
    memory = Memory(study)
    before = memory.read(SPEC)
    memory.write(SPEC, spec)  # at once: it marks the study as made by autotune
    anew = before is None or before.budget_s != spec.budget_s
    return study, begin_run(study, memory, anew=anew)


def _is_useless(study: Study, spec: StudySpec) -> bool:
    """Return whether a study has no measurements and was made for another direction."""
    less = study.direction is optuna.study.StudyDirection.MINIMIZE
    return _is_empty(study) and less != less_is_better(spec.objective)


def foreign(study: Study) -> str | None:
    """Return why this version can't use a study; None for one that it can."""
    memory = Memory(study)
    if memory.read(SPEC) is not None:
        return None
    return "made by another version of autotune" if memory.has(SPEC) else "not made by autotune"


def _check_ours(study: Study) -> None:
    why = foreign(study)
    if why is not None:
        hint = "give --study another name: autotune leaves such a study as it is"
        raise UserError(f'study "{study.study_name}" was {why}', hint=hint)


def stored_spec(storage: BaseStorage, name: str) -> StudySpec:
    """Return the specification that a study stores.

    Raises:
        UserError: if there is no such study, or this version of autotune has not made it.
    """
    study = load_study(storage, name)
    _check_ours(study)
    stored = Memory(study).read(SPEC)
    assert stored is not None
    return stored


def create_study(storage: BaseStorage, name: str, objective: Objective) -> optuna.Study:
    """Make a study of an objective; without a pruner, as noise misleads them all."""
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="minimize" if less_is_better(objective) else "maximize",
        pruner=optuna.pruners.NopPruner(),
    )


def load_study(storage: BaseStorage, name: str) -> optuna.Study:
    """Open an existing study.

    Raises:
        UserError: if there is none of that name.
    """
    pruner = optuna.pruners.NopPruner()
    try:
        return optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    except (KeyError, UnicodeEncodeError) as error:  # one that is no UTF-8 can't be there
        names = visible(study_names(storage))
        hint = did_you_mean(name, names) if names else "there are no studies yet: autotune run"
        raise UserError(f'unknown study "{name}"', hint=hint) from error


def load_facts(study: optuna.Study) -> StudyFacts:
    """Return a study's facts.

    Raises:
        UserError: if the study has none, because it was not made by autotune or its default failed.
    """
    facts = Memory(study).read(FACTS)
    if facts is None:
        _check_ours(study)
        hint = f"run it: autotune run --study {study.study_name} --model ..."
        raise UserError(f'study "{study.study_name}": nothing was measured yet', hint=hint)
    return facts


def changes_since(study: optuna.Study, identity: Identity, knobs: tuple[str, ...]) -> list[str]:
    """Return a line for each difference from when the study was made.

    Args:
        study: with or without measurements.
        identity: of the script, machine and versions now.
        knobs: to be searched now.
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
    """Return the name of the study to resume or begin, and why it is not the wanted one.

    The wanted name is used unless its study has another identity; then the first numbered name that
    is free or has this identity. So the same command always finds the same study. Names of studies
    that this version has not made are passed over.
    """
    taken = set(study_names(storage))
    why: list[str] = []
    for name in (wanted, *(numbered(wanted, i) for i in range(2, len(taken) + 3))):
        if name not in taken:
            return name, why
        study = load_study(storage, name)
        if foreign(study) is not None:
            continue
        changes = changes_since(study, identity, knobs)
        if not changes:
            return name, why
        why = why or changes
    raise RuntimeError("there is always a free name")
