"""A storage as optuna-dashboard sees it."""

import copy

from optuna.storages import BaseStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

from autotuner.options.names import is_reserved
from autotuner.study.memory import FACTS, ORIGIN, SPEC


def without_secrets(storage: BaseStorage) -> BaseStorage:
    """Return a view of a storage that leaves out what may be secret.

    These are the service's queue, which holds tokens' hashes and what others have submitted, and
    the attributes of studies that hold a script's arguments and environment. Everything else reads
    and writes the storage itself.
    """
    shown = copy.copy(storage)

    def get_all_studies() -> list[FrozenStudy]:
        studies = [one for one in storage.get_all_studies() if not is_reserved(one.study_name)]
        for study in studies:
            for key in (SPEC, FACTS, ORIGIN):
                study.user_attrs.pop(key.name, None)
        return studies

    def get_study_name_from_id(study_id: int) -> str:
        name = storage.get_study_name_from_id(study_id)
        if is_reserved(name):
            raise KeyError("Record does not exist.")  # as Optuna raises it
        return name

    def get_all_trials(study_id: int, *args: object, **more: object) -> list[FrozenTrial]:
        get_study_name_from_id(study_id)
        return storage.get_all_trials(study_id, *args, **more)  # type: ignore[arg-type]

    shown.get_all_studies = get_all_studies  # type: ignore[method-assign]
    shown.get_study_name_from_id = get_study_name_from_id  # type: ignore[method-assign]
    shown.get_all_trials = get_all_trials  # type: ignore[method-assign]
    return shown
