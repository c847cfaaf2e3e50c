"""Where studies are kept: SQLite under the working directory unless the user names a storage."""

import contextlib
import importlib.util
import sqlite3
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import URL, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from autotuner.errors import UserError
from autotuner.study.retrying import (
    RetryingStorage,
    is_race,
    is_transient,
    make_retrying_proxy,
    retry,
)

_BUSY_TIMEOUT_S = 60
_GRPC = "grpc"
_GRPC_PORT = 13000
_PATIENCE_TO_OPEN_S = 5.0
Storage = BaseStorage
StorageError = StorageInternalError
"""Names of Optuna's types for stages that do not import Optuna."""

STORAGE_ERRORS: tuple[type[Exception], ...] = (OptunaError, SQLAlchemyError)
"""The errors that a storage raises when its database fails."""


def quiet_optuna() -> None:
    """Turn Optuna's own logging off; autotune reports what matters."""
    optuna.logging.disable_default_handler()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of errors that are retried


def in_memory_storage() -> BaseStorage:
    """Return a storage that ends with this process."""
    quiet_optuna()
    return optuna.storages.InMemoryStorage()


def default_url(home: Path) -> str:
    """Return the URL of ``studies.db`` in the ``.autotune`` folder.

    Raises:
        UserError: if the folder's path is no UTF-8.
    """
    file = str(home.absolute() / "studies.db")
    if not _is_text(file):
        hint = "rename the folder, or give --storage"
        raise UserError(f"{file}: no database can be there: the path is no UTF-8", hint=hint)
    return URL.create("sqlite", database=file).render_as_string()  # quotes special characters


def _is_text(text: str) -> bool:
    """Return whether a text can be encoded; a path that is no UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown_url(url: str) -> str:
    """Return a storage URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database; None for the URL of another storage."""
    try:
        parts = make_url(url)
    except SQLAlchemyError:
        return None
    is_file = parts.get_backend_name() == "sqlite" and parts.database
    return Path(parts.database) if is_file and parts.database else None


def is_shared(storage: BaseStorage) -> bool:
    """Return whether processes on other machines can reach a storage."""
    if isinstance(storage, RDBStorage):
        return bool(storage.engine.dialect.name != "sqlite")
    return not isinstance(storage, optuna.storages.InMemoryStorage)


def _open_proxy(url: str) -> BaseStorage:
    """Open a storage through Optuna's gRPC proxy.

    Raises:
        UserError: if it does not answer, or gRPC is not installed.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise UserError(f"--storage {url}: no host", hint="write grpc://HOST:13000")
    if importlib.util.find_spec("grpc") is None:
        raise UserError(f"--storage {url}: gRPC is missing", hint="pip install grpcio")
    try:
        port = parts.port or _GRPC_PORT
    except ValueError as error:
        raise UserError(f"--storage {url}: {error}", hint="write grpc://HOST:13000") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = make_retrying_proxy(parts.hostname, port)
    try:
        proxy.wait_server_ready(timeout=_PATIENCE_TO_OPEN_S)
    except ConnectionError as error:
        hint = "is optuna.storages.run_grpc_proxy_server running there? See docs/fleet.md"
        raise UserError(f"--storage {url}: nothing answers there", hint=hint) from error
    return proxy


def open_storage(url: str, *, create: bool) -> BaseStorage:
    """Open a storage of any kind.

    Args:
        url: of SQLAlchemy's form, or ``grpc://HOST:PORT`` of Optuna's proxy.
        create: see :func:`open_database`.

    Raises:
        UserError: if it can't be opened.
    """
    if not _is_text(url):
        raise UserError(f"--storage {url}: no UTF-8", hint="give another path")
    quiet_optuna()
    return _open_proxy(url) if urlsplit(url).scheme == _GRPC else open_database(url, create=create)


def open_database(url: str, *, create: bool) -> RDBStorage:
    """Open a database; SQLite gets a write-ahead log, so that readers don't block the study.

    Args:
        url: of SQLAlchemy's form.
        create: whether a SQLite file that does not exist may be made; it must be writable then.

    Raises:
        UserError: if it can't be opened.
    """
    quiet_optuna()
    engine: dict[str, object] = {"pool_pre_ping": True}
    try:
        parts = _with_driver(make_url(url))
        if parts.get_backend_name() == "sqlite" and parts.database:
            timeout_s = float(str(parts.query.get("timeout", _BUSY_TIMEOUT_S)))
            _prepare_sqlite(Path(parts.database), timeout_s, create=create)
            engine = {"connect_args": {"timeout": timeout_s}}
        # RDBStorage formats the URL with {SCHEMA_VERSION}, so braces must be doubled
        full = parts.render_as_string(hide_password=False)
        doubled = full.replace("{", "{{").replace("}", "}}")
        storage: RDBStorage = retry(
            lambda: RetryingStorage(doubled, engine_kwargs=engine),
            lambda error: is_transient(error) or is_race(error),
            _PATIENCE_TO_OPEN_S,  # a mistyped URL is reported soon
        )
    except RuntimeError as error:  # Optuna's, of tables of another version
        hint = "install the Optuna that has made it, or upgrade it: optuna storage upgrade"
        reason = str(error).split(". ")[0]
        raise UserError(f"--storage {shown_url(url)}: {reason}", hint=hint) from error
    except (SQLAlchemyError, ImportError, ValueError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        reason = str(cause).splitlines()[0].replace(url, shown_url(url))
        hint = None
        if isinstance(error, ImportError):
            hint = "for PostgreSQL: pip install 'tf-autotune[postgres]'"
        raise UserError(
            f"--storage {shown_url(url)}: can't be opened: {reason}", hint=hint
        ) from error
    if parts.get_backend_name() == "sqlite":
        event.listen(storage.engine, "connect", _sync_at_checkpoints)
        storage.engine.dispose()  # only new connections have the setting
    return storage


def _sync_at_checkpoints(connection: sqlite3.Connection, record: object) -> None:
    """Let SQLite wait for the disk at checkpoints only: a trial writes some fifty times.

    Committed data still survives the death of a process; see :func:`make_durable`.
    """
    connection.execute("PRAGMA synchronous=NORMAL")


class DatabaseGoneError(StorageInternalError):
    """The file of a SQLite database was deleted or replaced."""


class DatabaseFile:
    """The file of a SQLite database, as it is now.

    A connection that is open writes to the file that it has opened, whatever its path is meanwhile.
    """

    def __init__(self, storage: BaseStorage) -> None:
        is_file = isinstance(storage, RDBStorage) and not is_shared(storage)
        name = storage.engine.url.database if is_file else None  # type: ignore[attr-defined]
        self._path = Path(name) if name else None
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = None if self._path is None else self._path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    def check(self) -> None:
        """Check that the path still leads to the file.

        Raises:
            DatabaseGoneError: if it does not.
        """
        if self._look() != self._identity:
            raise DatabaseGoneError(f"{self._path}: the database's file was deleted or replaced")


def make_durable(storage: BaseStorage) -> None:
    """Wait until all writes are on the disk, where they survive a power failure.

    Raises:
        UserError: if the file was deleted: SQLite would keep writing to the deleted file.
    """
    if isinstance(storage, RDBStorage) and storage.engine.dialect.name == "sqlite":
        file = storage.engine.url.database
        if file and not Path(file).exists():
            hint = "its trials are lost; begin anew: autotune run"
            raise UserError(f"{file}: the database is gone: its file was deleted", hint=hint)
        with storage.engine.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))


def database_problem(error: BaseException) -> str | None:
    """Return a database's error as text for the user; None for any other error."""
    if isinstance(error, DatabaseGoneError):
        return str(error)
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(cause, DBAPIError):
        return None
    lines = str(cause.orig).strip().splitlines()
    return f"the database failed: {lines[0] if lines else type(cause.orig).__name__}"


def _with_driver(url: URL) -> URL:
    """Return a URL with psycopg 3, our dependency, if a PostgreSQL URL names no driver."""
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _prepare_sqlite(file: Path, timeout_s: float, *, create: bool) -> None:
    if not file.exists() and not create:
        hint = "run autotune where the study was made, or give --storage"
        raise UserError(f"{file}: there are no studies here", hint=hint)
    if not create:
        return  # a reader need not be able to write
    try:
        if file.parent.name == ".autotune":  # only this folder is made; another one may be mistyped
            file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file, timeout=timeout_s)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")  # another process may be doing the same
            connection.execute("CREATE TABLE IF NOT EXISTS autotune_writable (x INTEGER)")
            connection.execute("DROP TABLE autotune_writable")
            connection.commit()
    except (OSError, sqlite3.Error) as error:
        hint = "run autotune where it may write .autotune/, or give --storage"
        raise UserError(f"{file}: can't be written: {error}", hint=hint) from error
