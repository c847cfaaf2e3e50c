"""A storage that retries after transient errors: a restarting server, a lock of another process.

A study runs for hours, and a database server restarts in seconds. Every operation is a transaction
of its own, so it can be repeated; only lasting errors are reported.
"""

import functools
from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    ProgrammingError,
)
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

PATIENCE_S = 120.0
_LONGEST_WAIT_S = 2.0
# parts of the messages of lasting errors, of SQLite and of PostgreSQL's client
_LASTING = (
    "disk is full",
    "disk i/o error",
    "readonly database",
    "unable to open",
    "malformed",
    "locked",  # SQLite has waited for its own time-out
    "no such table",
    "authentication failed",
    "does not exist",
    "could not translate host name",
    "name or service not known",
    "no space left",
)


def is_transient(error: BaseException) -> bool:
    """Return whether a database operation may succeed if it is repeated after this error."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    if isinstance(cause, PendingRollbackError):
        return True  # Optuna used a transaction that the server had ended; it is rolled back
    if not isinstance(cause, OperationalError | InterfaceError):
        return False
    return not any(words in str(cause.orig).lower() for words in _LASTING)


def is_race(error: BaseException) -> bool:
    """Return whether another process has just made the tables that this one tried to make."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(cause, IntegrityError | ProgrammingError) and any(
        words in str(cause.orig).lower() for words in ("already exists", "duplicate key")
    )


def retry(
    function: Callable[[], Any],
    passes: Callable[[BaseException], bool] = is_transient,
    patience_s: float = PATIENCE_S,
) -> Any:
    """Call a function, and repeat it while its errors are transient, for ``patience_s`` at most."""
    attempts = Retrying(
        retry=retry_if_exception(passes),
        wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT_S),
        stop=stop_after_delay(patience_s),
        reraise=True,
    )
    return attempts(function)


class RetryingStorage(RDBStorage):
    """Optuna's RDBStorage; each operation is repeated while its error is transient."""

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """Set how a trial ended, once: a repeat after a lost answer finds the state already set."""
        tried = False

        def attempt() -> bool:
            nonlocal tried
            again, tried = tried, True
            try:
                return RDBStorage.set_trial_state_values(self, trial_id, state, values)
            except UpdateFinishedTrialError:
                if again and self.get_trial(trial_id).state is state:
                    return True
                raise

        return bool(retry(attempt))


def _retrying(
    method: Callable[..., Any], passes: Callable[[BaseException], bool] = is_transient
) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: BaseStorage, *args: Any, **kwargs: Any) -> Any:
        return retry(lambda: method(self, *args, **kwargs), passes)

    return call


# Optuna's cache in front of an RDBStorage calls these three
_FROM_CACHE = ("_create_new_trial", "_set_trial_param", "_get_trials")
for _name in (*vars(BaseStorage), *_FROM_CACHE):
    _method = vars(RDBStorage).get(_name)
    _is_public = not _name.startswith("_") or _name in _FROM_CACHE
    if _is_public and callable(_method) and _name not in vars(RetryingStorage):
        setattr(RetryingStorage, _name, _retrying(_method))


def _is_away(error: BaseException) -> bool:
    """Return whether a gRPC server was unreachable; works without gRPC installed."""
    code = getattr(error, "code", None)
    return callable(code) and getattr(code(), "name", "") == "UNAVAILABLE"


def make_retrying_proxy(host: str, port: int) -> GrpcStorageProxy:
    """Return Optuna's gRPC proxy; each operation is repeated while no server answers."""
    proxy = GrpcStorageProxy(host=host, port=port)
    for name in vars(BaseStorage):
        method = vars(GrpcStorageProxy).get(name)
        if callable(method) and not name.startswith("_"):
            setattr(proxy, name, functools.partial(_retrying(method, _is_away), proxy))
    return proxy
