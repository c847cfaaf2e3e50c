"""``autotune clean``: remove old studies; without --yes it only lists what it would remove."""

from collections.abc import Sequence

from autotuner.cli.browse import storage_name
from autotuner.cli.terminal import out_console
from autotuner.errors import UserError
from autotuner.options.duration import parse_duration
from autotuner.report.tables import removable_table
from autotuner.service.queue import Queue
from autotuner.study.artifacts import artifact_folder, artifact_store
from autotuner.study.cleaning import find_removable, remove
from autotuner.study.folders import HOME
from autotuner.study.storage import Storage, default_url, open_storage


def clean(
    names: Sequence[str],
    *,
    older_than: str | None,
    jobs: bool,
    yes: bool,
    storage_url: str | None,
) -> None:
    """Remove named studies, old studies, folders whose studies are gone, and ended jobs."""
    storage = open_storage(storage_url or default_url(HOME), create=False)
    if jobs:
        _forget_jobs(storage, yes=yes)
        if not names and older_than is None:
            return
    age_s = None if older_than is None else _age(older_than)
    where = (HOME.absolute(), storage_name(storage_url))
    found = find_removable(storage, *where, names=names, older_than_s=age_s)
    console = out_console()
    if not found:
        hint = "" if names or age_s else ": name studies, or give --older-than 30d"
        console.print(f"nothing to remove{hint}", markup=False)
        return
    console.print(removable_table(found))
    free = [one for one in found if not one.running]
    size_mib = sum(one.size_bytes for one in free) / 2**20
    if not yes:
        console.print(f"\nnothing was removed; with --yes {len(free)} of these, {size_mib:.1f} MiB")
        return
    store = artifact_store(HOME) if artifact_folder(HOME).is_dir() else None
    for one in free:
        remove(storage, *where, one, store)
    console.print(f"\nremoved {len(free)}, {size_mib:.1f} MiB")


def _age(text: str) -> float:
    """Return an age in seconds; a number without a unit would mean seconds, and remove much."""
    if text.strip().isdecimal():
        hint = f"write {text.strip()}d for days; h, m and s are known, too"
        raise UserError(f"--older-than {text}: no unit", hint=hint)
    return parse_duration(text, where="--older-than")


def _forget_jobs(storage: Storage, *, yes: bool) -> None:
    queue, console = Queue(storage), out_console()
    if not yes:
        ended = sum(not job.is_active for job in queue.jobs())
        console.print(f"jobs that have ended: {ended}; nothing was removed; --yes removes them")
        return
    forgotten = queue.forget(everything=True)
    left = sum(not job.is_active for job in queue.jobs())
    later = f"; {left} more go when the jobs beside them have ended" if left else ""
    console.print(f"forgot {forgotten} jobs{later}; their studies are kept")
