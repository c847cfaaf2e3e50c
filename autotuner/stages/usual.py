"""The usual candidates: the vendor's recipe, and what the script sets itself."""

import dataclasses

from autotuner.knobs.knob import Configuration
from autotuner.stages.known import Known
from autotuner.study.candidates import own_configuration
from autotuner.study.record import Role, Task, TrialRecord, configuration_key
from autotuner.study.study_facts import StudyFacts


@dataclasses.dataclass(frozen=True)
class UsualCandidates:
    """Measures each candidate once, if it differs from the defaults and from the other."""

    roles: frozenset[Role] = frozenset()  # the search need not wait for them

    def next_task(self, known: Known) -> Task | None:
        """Return the first candidate that has no trial."""
        done = {record.role for record in known.records if record.counts}
        if not known.budget.searches:
            return None
        missing = (
            Task(role=role, configuration=configuration)
            for role, configuration in usual_candidates(known.facts)
            if role not in done
        )
        return next(missing, None)

    def wants(self, task: Task, known: Known, mine: TrialRecord) -> bool:
        """Return whether no other worker has a trial of this candidate."""
        taken = any(r.role is task.role for r in known.records)
        return not taken and known.budget.trials_left > 0

    def awaits_others(self, known: Known) -> bool:
        """Return False: one worker measures each candidate."""
        return False


def usual_candidates(facts: StudyFacts) -> list[tuple[Role, Configuration]]:
    """Return the candidates that differ from the defaults and from each other."""
    space = facts.space
    offered: list[tuple[Role, Configuration | None]] = [
        (Role.RECIPE, space.recipe),
        (Role.SCRIPT, own_configuration(facts)),
    ]
    tried, found = {configuration_key(space.default)}, []
    for role, configuration in offered:
        if configuration is not None and configuration_key(configuration) not in tried:
            tried.add(configuration_key(configuration))
            found.append((role, configuration))
    return found
