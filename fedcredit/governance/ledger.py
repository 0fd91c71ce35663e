"""A party's governance database: serialised write transactions on SQLite or PostgreSQL.

One transaction holds everything that an answer needs (consent used, budget charged, entry logged),
so that after a failure, a kill or a full disk either all of it stands or none of it.

- Writers wait for each other, between threads and between processes: on SQLite by a lock and
  ``BEGIN IMMEDIATE``, on PostgreSQL by one advisory lock. What a writer read stays true until it
  commits, so counting and then charging needs no further care.
- A commit is on the disk (``synchronous=FULL``; PostgreSQL's ``synchronous_commit``).
- Readers see one state of the whole database and block nobody.
- The database is brought to this release's revision on opening, and refused if a newer release
  wrote it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fedcredit.errors import ConfigError, StorageError
from fedcredit.governance.migrations import HEAD, REVISIONS, stored_revision, upgrade
from fedcredit.governance.schema import METADATA

__all__ = ["Ledger"]

_STEP = "governance database"
#: Seconds that a writer waits for another before it gives up.
_BUSY_SECONDS = 30.0
_CONNECT_SECONDS = 10
#: An arbitrary constant: names the advisory lock that serialises the writers of one database.
_LOCK = 0x6665646372656469
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
#: What SQLite's error names and PostgreSQL's SQLSTATEs say, by their beginnings.
_REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it is read-only",
    "SQLITE_BUSY": "another process has held it for too long",
    "SQLITE_LOCKED": "another process has held it for too long",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_NOTADB": "the file is no database",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_IOERR": "the disk fails",
    "SQLITE_CONSTRAINT": "a row breaks a rule of the tables",
    "08": "the server cannot be reached",
    "23": "a row breaks a rule of the tables",
    "25006": "it is read-only",
    "28": "the server refuses the user or password",
    "3D000": "there is no such database",
    "42501": "the user lacks a right",
    "53100": "the disk is full",
    "55P03": "another process has held it for too long",
    "57": "the server shut down",
}


class Ledger:
    """Opens the database and gives out transactions; safe to share between threads.

    Parameters
    ----------
    url : str
        ``sqlite:///path``, ``sqlite://`` (in memory), or ``postgresql://user@host/name`` (with
        psycopg). A new file, and directories above it, are made for the owner only. A password is
        better kept in ``~/.pgpass``, which libpq reads, than in the URL.
    party : str
        Named in errors.

    Raises
    ------
    ConfigError
        The URL is malformed or names another kind of database or driver.
    StorageError
        The database cannot be opened, or was written by a newer release.
    """

    def __init__(self, url: str, *, party: str = "") -> None:
        self.party = party
        parsed = self._parse(url)
        self._postgres = parsed.get_backend_name() == "postgresql"
        self._memory = not self._postgres and parsed.database in (None, "", ":memory:")
        #: Serialises this process's writers on SQLite; in memory, where all threads share one
        #: connection, its readers as well. (SQLite itself would let them poll for the file's lock.)
        self._mutex = threading.Lock()
        self._local = threading.local()
        self._engine = self._make_engine(parsed)
        try:
            self._open(parsed)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise self._error(f"cannot be opened: {error.strerror}") from None
            if isinstance(error, (DBAPIError, PoolTimeout)):
                self._fail(error, "opened")
            raise

    def __repr__(self) -> str:
        return f"Ledger({self._engine.url.get_backend_name()!r}, party={self.party!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a database connection is never pickled")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Give a connection whose writes are one transaction, serialised with every other writer.

        Commits (durably) at the end of the block; an exception rolls back.

        Raises
        ------
        StorageError
            The database cannot be written (full, read-only, locked, away), or this thread is in a
            transaction already.
        """
        if self._current("transaction") is not None:
            raise self._error("is in a transaction of this thread already", "finish it first")
        if self._memory and self._current("reading") is not None:
            raise self._error("is being read by this thread", "finish reading first")
        try:
            with self._locked(not self._postgres), self._engine.connect() as connection:
                if self._postgres:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                else:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                with self._as_current("transaction", connection):
                    yield connection
                connection.commit()
        except (DBAPIError, PoolTimeout) as error:
            self._fail(error, "written")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection for reading one state of the database; it refuses to write.

        Within a transaction of the same thread, or while it reads already, it is that connection.

        Raises
        ------
        StorageError
            The database cannot be read.
        """
        current = self._current("transaction") or self._current("reading")
        if current is not None:
            yield current
            return
        try:
            with self._locked(self._memory), self._engine.connect() as connection:
                if self._postgres:
                    connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                    with self._as_current("reading", connection):
                        yield connection
                else:
                    with _query_only(connection), self._as_current("reading", connection):
                        yield connection
        except (DBAPIError, PoolTimeout) as error:
            self._fail(error, "read")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _current(self, what: str) -> sa.Connection | None:
        """Return the connection with which this thread is in a transaction, or reading."""
        return getattr(self._local, what, None)

    @contextlib.contextmanager
    def _as_current(self, what: str, connection: sa.Connection) -> Iterator[None]:
        setattr(self._local, what, connection)
        try:
            yield
        finally:
            setattr(self._local, what, None)

    @contextlib.contextmanager
    def _locked(self, needed: bool) -> Iterator[None]:
        if not needed:
            yield
            return
        if not self._mutex.acquire(timeout=_BUSY_SECONDS):
            raise self._error("cannot be used: another thread has held it for too long")
        try:
            yield
        finally:
            self._mutex.release()

    def _parse(self, url: str) -> sa.URL:
        try:
            parsed = sa.make_url(url)
        except (ArgumentError, ValueError):  # ValueError: a port that is no number
            raise ConfigError(
                "the database URL is malformed.",
                party=self.party,
                step=_STEP,
                fix="use sqlite:///path or postgresql://user@host/name",
            ) from None
        if parsed.drivername not in _DRIVERS or (parsed.database or "").startswith("file:"):
            raise ConfigError(
                f"a database of the kind {parsed.drivername} is not supported.",
                party=self.party,
                step=_STEP,
                fix="use sqlite:///path or postgresql://user@host/name",
            )
        return parsed.set(drivername=_DRIVERS[parsed.drivername])

    def _make_engine(self, url: sa.URL) -> sa.Engine:
        options: dict[str, Any] = {}
        if self._postgres:
            given = url.query.get("options", "")
            settings = given if isinstance(given, str) else " ".join(given)
            options["connect_args"] = {
                "connect_timeout": _CONNECT_SECONDS,
                "options": f"{settings} -c lock_timeout={int(_BUSY_SECONDS * 1000)}".strip(),
                "application_name": "fedcredit",
            }
            # A server that restarted costs a reconnection and no refused question.
            options["pool_pre_ping"] = True
        else:
            options["connect_args"] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
            if self._memory:
                options["poolclass"] = sa.StaticPool
            else:
                # The connection that was used last has the cache that is up to date.
                options["pool_use_lifo"] = True
        try:
            engine = sa.create_engine(url, hide_parameters=True, **options)
        except ModuleNotFoundError:
            raise ConfigError(
                "the driver for PostgreSQL is not installed.",
                party=self.party,
                step=_STEP,
                fix="install fedcredit[postgres]",
            ) from None
        if not self._postgres:
            sa.event.listen(engine, "connect", _on_sqlite_connect)
        return engine

    def _open(self, url: sa.URL) -> None:
        if self._memory:
            # Always new and never migrated.
            with self.transaction() as tx:
                METADATA.create_all(tx)
            return
        if self._postgres:
            self._bring_up()
            return
        path = Path(str(url.database))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and self._is_current():
            return
        # A change to write-ahead logging does not wait for other processes: they queue here.
        with _directory_lock(path.parent):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            self._bring_up()

    def _is_current(self) -> bool:
        with self._engine.connect() as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            return self._check_revision(connection) and mode == "wal"

    def _bring_up(self) -> None:
        with self._engine.connect() as connection:
            if self._check_revision(connection):
                return
        with self.transaction() as tx:
            # Another process may have been quicker.
            if not self._check_revision(tx):
                upgrade(tx)

    def _check_revision(self, connection: sa.Connection) -> bool:
        """Whether a database is at this release's revision; a newer one is refused."""
        found = stored_revision(connection)
        if found is not None and found not in REVISIONS:
            raise self._error(
                f"was written by a newer release (revision {found[:32]!r}, known up to {HEAD!r})",
                "update fedcredit at this party",
            )
        return found == HEAD

    def _error(self, reason: str, fix: str | None = None) -> StorageError:
        return StorageError(
            f"the governance database {reason}.",
            party=self.party,
            step=_STEP,
            fix=fix or "check that it runs, that its disk has room, and that it may be written",
        )

    def _fail(self, error: DBAPIError | PoolTimeout, action: str) -> NoReturn:
        # The text of a driver's error may quote rows or the URL; codes and classes do not.
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or ""
        reason = next((why for key, why in _REASONS.items() if code.startswith(key)), None)
        what = ", ".join(filter(None, (reason, type(cause).__name__, code)))
        raise self._error(f"cannot be {action} ({what})") from None


def _on_sqlite_connect(connection: Any, _: Any) -> None:
    # The driver must not open transactions by itself: BEGIN IMMEDIATE takes the lock up front.
    connection.isolation_level = None
    # What is deleted (a salt, an old counter) is overwritten. The cache (64 MiB) holds what a
    # question about thousands touches; it fills as needed.
    pragmas = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "cache_size=-65536")
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


@contextlib.contextmanager
def _query_only(connection: sa.Connection) -> Iterator[None]:
    """Read one snapshot on SQLite; a write by mistake fails instead of vanishing."""
    connection.exec_driver_sql("PRAGMA query_only=ON")
    try:
        connection.exec_driver_sql("BEGIN")
        yield
    finally:
        connection.rollback()
        connection.exec_driver_sql("PRAGMA query_only=OFF")


@contextlib.contextmanager
def _directory_lock(directory: Path) -> Iterator[None]:
    """Let one process at a time make or change a database in a directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
