"""What differs between SQLite and PostgreSQL, all of it.

An engine with its durability settings; how a transaction begins; what is locked beside rows; which faults of the
database are worth a second try, and what the others are called.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any, Final, Protocol
from urllib.parse import quote

from sqlalchemy import URL, BigInteger, Connection, Engine, QueuePool, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from tallystick.activation.storage import pipeline
from tallystick.activation.storage.batches import Batches
from tallystick.activation.storage.batches_postgres import PostgresBatches
from tallystick.activation.storage.batches_sqlite import SqliteBatches
from tallystick.activation.storage.tables import METADATA
from tallystick.errors import Error, InvariantError
from tallystick.sentences import _

BUSY_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 5
LOCK_SECONDS: Final = 10.0  # how long a row may be waited for
STATEMENT_SECONDS: Final = 60.0
KEYS_MAX: Final = 900  # keys in one IN list, below the smallest limit of SQLite on variables, 999

WRITING: Final = {"tallystick_mode": "write"}
READING: Final = {"tallystick_mode": "read"}


class DatabaseError(Error):
    """The database could not do it. Nothing was half-done."""


class Dialect(Protocol):
    """One kind of database."""

    name: str
    migrates_itself: bool  # whether opening for service brings the schema up to date
    batches: Batches
    errors: tuple[type[Exception], ...]  # what a statement may raise

    def open_engine(self, *, create: bool) -> Engine:
        """An engine for this database. ``create``: it may not exist yet."""

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ``on_conflict_do_update`` (both engines have the same one)."""

    def enter(self) -> None:
        """Mark the database as in use, until ``leave`` or the end of the process. Raises ``DatabaseError`` while it is copied.

        Whoever may write holds this mark; whoever copies the database away excludes everybody.
        """

    def leave(self) -> None:
        """Not any more."""

    def refuse_moved(self) -> None:
        """From now on, also what connects anew later does not go on with a database that was copied away meanwhile."""

    def exclude(self, connection: Connection) -> None:
        """Let nobody else use the database until the transaction ends. Raises ``DatabaseError`` where somebody does."""

    def lock_names(self, connection: Connection, names: Iterable[str]) -> None:
        """Keep other transactions that name the same from going on until this one ends: for what has no row yet."""

    def wait_without_end(self, connection: Connection) -> None:
        """Let this transaction take as long as it takes."""

    def number_on(self, connection: Connection) -> None:
        """Let what the database numbers by itself go on after the highest number that is there."""

    def check_commit(self, connection: Connection) -> None:
        """Raises ``DatabaseError`` when the commit that was just done is not where it is safe."""

    def is_conflict(self, error: Exception) -> bool:
        """Whether another transaction was in the way, so that running the work again is right."""

    def is_lost(self, error: Exception) -> bool:
        """Whether the connection is of no use any more, so that another one may do."""

    def is_of_ours(self, error: Exception) -> bool:
        """Whether the statement is at fault: trying again would not help, and "unavailable" would be wrong."""

    def fault(self, error: Exception) -> DatabaseError | InvariantError:
        """What to call an error of the driver."""


def dialect_for(url: str) -> Dialect:
    """The dialect of a database URL. Raises ``DatabaseError`` (``usage``) for any other database."""
    expected = _("a database URL like sqlite:////path/to/file or postgresql+psycopg://host/name")
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseError("usage", expected=expected, seen=_("something else")) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database:
        return SqliteDialect(Path(parsed.database))
    if backend == "postgresql":
        return PostgresDialect(parsed)
    raise DatabaseError("usage", expected=expected, seen=_("one for {backend}", backend=backend))


class SqliteDialect:
    """One file, one writer at a time; readers see the last commit (WAL). A commit is on the disk when it returns."""

    name = "sqlite"
    migrates_itself = True
    batches: Batches = SqliteBatches()
    errors: tuple[type[Exception], ...] = (DBAPIError, sqlite3.Error)

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: int | None = None

    def open_engine(self, *, create: bool) -> Engine:
        """See ``Dialect``. A file that is gone is never made anew by opening it."""
        if not create and not self.path.exists():
            raise DatabaseError(
                "database-missing", expected=_("the database that init has made"), seen=_("no {path}", path=self.path)
            )

        self._keep_private(create=create)

        def connect() -> sqlite3.Connection:
            uri = f"file:{quote(str(self.path.absolute()))}?mode={'rwc' if create else 'rw'}"
            connection = sqlite3.connect(
                uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            if create:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            return connection

        engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=32, hide_parameters=True
        )
        event.listen(engine, "begin", self._begin)
        return engine

    def _keep_private(self, *, create: bool) -> None:
        """Only its owner reads and writes it, whatever the umask is or the file had; what SQLite puts beside it follows."""
        try:
            if create and not self.path.exists():
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            found = self.path.stat()
            if found.st_mode & 0o077 and found.st_uid == os.geteuid():
                self.path.chmod(0o600)
                for name in ("-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        Path(f"{self.path}{name}").chmod(0o600)
        except FileExistsError:
            return  # another one made it at the same time
        except OSError as error:
            seen = error.strerror or str(error)
            raise DatabaseError(
                "disk-failed", expected=_("{path} to be writable", path=self.path), seen=seen
            ) from error

    @staticmethod
    def _begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("tallystick_mode")
        # A writer takes its lock at once: a reader that turns writer could only fail.
        connection.exec_driver_sql("BEGIN" if mode == "read" else "BEGIN IMMEDIATE")

    def insert(self, table: Table) -> Any:
        """See ``Dialect``."""
        return sqlite.insert(table)

    def enter(self) -> None:
        """See ``Dialect``. A lock of the operating system on a file beside it ends with the process."""
        place = self.path.with_name(self.path.name + USE_SUFFIX)
        try:  # for reading: whoever may not write it may still lock it
            self._mark = os.open(place, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.leave()
            raise _in_use(_("that is not being copied"), _("a copy of {path} under way", path=self.path)) from None
        except OSError as error:
            self.leave()
            raise DatabaseError(
                "disk-failed", expected=_("{place} to be writable", place=place), seen=str(error)
            ) from error

    def leave(self) -> None:
        """See ``Dialect``."""
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None

    def refuse_moved(self) -> None:
        """See ``Dialect``. While this process lives, its mark lets nobody copy."""

    def exclude(self, connection: Connection) -> None:  # noqa: ARG002 - the mark is no lock of the database
        """See ``Dialect``. It lasts until ``leave``."""
        if self._mark is None:
            self.enter()
        for _other in range(_EXCLUDE_TRIES):
            try:
                fcntl.flock(self._mark or 0, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sleep(_EXCLUDE_SECONDS)
            else:
                return
        raise _in_use(_("that nothing uses"), _("serve or another command on {path}", path=self.path))

    def lock_names(self, connection: Connection, names: Iterable[str]) -> None:
        """See ``Dialect``. The only writer needs no other lock."""

    def wait_without_end(self, connection: Connection) -> None:
        """See ``Dialect``. Nothing else ends it."""

    def number_on(self, connection: Connection) -> None:
        """See ``Dialect``. It does so by itself."""

    def check_commit(self, connection: Connection) -> None:
        """See ``Dialect``. It is on the disk, or it failed."""

    def is_conflict(self, error: Exception) -> bool:  # noqa: ARG002 - part of the protocol
        """See ``Dialect``. With one writer at a time there is none; who waits too long gets an error."""
        return False

    def is_lost(self, error: Exception) -> bool:  # noqa: ARG002 - part of the protocol
        """See ``Dialect``. A file is there or not."""
        return False

    def is_of_ours(self, error: Exception) -> bool:
        """See ``Dialect``."""
        return _is_of_ours(error)

    def fault(self, error: Exception) -> DatabaseError | InvariantError:
        """See ``Dialect``."""
        driver = _of_driver(error)
        seen, code = str(driver), getattr(driver, "sqlite_errorcode", 0) & 0xFF
        match code:
            case sqlite3.SQLITE_CONSTRAINT:
                return InvariantError("rows that fit the tables", seen)
            case sqlite3.SQLITE_FULL:
                return DatabaseError("disk-full", expected=_("room beside {path}", path=self.path), seen=seen)
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
                return DatabaseError("disk-failed", expected=_("{path} to be writable", path=self.path), seen=seen)
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return DatabaseError(
                    "database-damaged", expected=_("{path} to be a whole database", path=self.path), seen=seen
                )
            case _:
                return DatabaseError("database-unavailable", expected=_("the database to take it"), seen=seen)


class PostgresDialect:
    """Row locks in id order, read committed; a conflict that locks cannot prevent is tried again."""

    name = "postgresql"
    migrates_itself = False
    batches: Batches = PostgresBatches()
    # Serialisation, deadlock, unique race; a prepared statement that the server was made to forget.
    _CONFLICTS: Final = frozenset({"40001", "40P01", "23505", "26000"})
    _FULL: Final = frozenset({"53100"})
    # The server stops or was told to end the connection; it became a standby, which only reads.
    _LOST: Final = frozenset({"57P01", "57P02", "25006"})

    def __init__(self, url: URL) -> None:
        import psycopg  # noqa: PLC0415 - an extra, which SQLite does without

        self.url = url.set(drivername="postgresql+psycopg")
        self._refuses_moved = False
        self.errors: tuple[type[Exception], ...] = (DBAPIError, psycopg.Error)

    def open_engine(self, *, create: bool) -> Engine:  # noqa: ARG002 - part of the protocol
        """See ``Dialect``. The database itself is made by whoever runs PostgreSQL."""
        network = {  # a network that swallows everything is noticed
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # A standby answers questions from the past. What leads to one, for the moment of a fail-over, is refused.
            "target_session_attrs": "read-write",
            # The driver prepares nothing: after a rollback it would have the server forget what ``pipeline`` prepared.
            "prepare_threshold": None,
        }
        engine = create_engine(
            self.url,
            hide_parameters=True,  # what is written may be secret, and errors are told
            connect_args={name: value for name, value in network.items() if name not in self.url.query},
            pool_size=8,
            max_overflow=32,
            pool_timeout=LOCK_SECONDS,
            isolation_level="READ COMMITTED",
        )
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "commit", self._before_commit)
        return engine

    def _prepare(self, connection: Any, record: ConnectionPoolEntry) -> None:
        """Nothing waits for ever: each wait has an end, and then an answer. Nothing is planned twice, either.

        A list of one key and a list of a thousand want the same plan, through the key. Each connection marks the database
        as in use for as long as it lives: see ``Dialect.enter``.
        """
        connection.execute(
            "SET plan_cache_mode = force_generic_plan;"
            f"SET lock_timeout = {round(LOCK_SECONDS * 1000)};"
            f"SET statement_timeout = {round(STATEMENT_SECONDS * 1000)};"
            f"SET idle_in_transaction_session_timeout = {round(STATEMENT_SECONDS * 1000)}"
        )
        (is_free,) = connection.execute(f"SELECT pg_try_advisory_lock_shared({_USE_KEY})").fetchone()
        moved = connection.execute(_MOVED).fetchone() if is_free and self._refuses_moved else None
        connection.commit()
        if not is_free or moved:
            connection.close()
            raise _in_use(
                _("that is not being copied"), _("a copy under way") if not is_free else _("one that was copied away")
            )

        def note(warned: Any) -> None:
            if warned.severity_nonlocalized == "WARNING" and warned.sqlstate == _WARNING:
                record.info[pipeline.WARNED] = warned.message_primary

        connection.add_notice_handler(note)

    @staticmethod
    def _before_commit(connection: Connection) -> None:
        """Forget what was said before, unless the commit was sent already."""
        if not connection.info.pop(pipeline.COMMITTED, False):
            connection.info.pop(pipeline.WARNED, None)

    @staticmethod
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("tallystick_mode") == "read":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def insert(self, table: Table) -> Any:
        """See ``Dialect``."""
        return postgresql.insert(table)

    def enter(self) -> None:
        """See ``Dialect``. Each connection does."""

    def leave(self) -> None:
        """See ``Dialect``. It ends with the last connection."""

    def refuse_moved(self) -> None:
        """See ``Dialect``. A mark ends with its connection, so the next one looks."""
        self._refuses_moved = True

    def exclude(self, connection: Connection) -> None:
        """See ``Dialect``. The process at the other end of a connection that was closed takes a moment to end."""
        for _other in range(_EXCLUDE_TRIES):
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_USE_KEY})").scalar():
                return
            sleep(_EXCLUDE_SECONDS)
        raise _in_use(_("that nothing uses"), _("serve or another command that is connected to it"))

    def check_commit(self, connection: Connection) -> None:
        """See ``Dialect``. Whoever cancels the wait for the synchronous standby has it reported as done, with a warning."""
        seen = connection.info.pop(pipeline.WARNED, None)
        if seen is not None:
            raise DatabaseError("database-unavailable", expected=_("a commit that a second server has"), seen=seen)

    def lock_names(self, connection: Connection, names: Iterable[str]) -> None:
        """See ``Dialect``."""
        connection.execute(_LOCK_NAMES, {"names": sorted(set(names))})

    def wait_without_end(self, connection: Connection) -> None:
        """See ``Dialect``."""
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")

    def number_on(self, connection: Connection) -> None:
        """See ``Dialect``."""
        for table in METADATA.tables.values():
            column = table.autoincrement_column
            if column is None or not isinstance(column.type, BigInteger):
                continue
            connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), coalesce(max({column.name}), 0) + 1, "  # noqa: S608 - constants
                f"false) FROM {table.name} HAVING pg_get_serial_sequence('{table.name}', '{column.name}') IS NOT NULL"
            )

    def is_conflict(self, error: Exception) -> bool:
        """See ``Dialect``."""
        return _state(error) in self._CONFLICTS

    def is_lost(self, error: Exception) -> bool:
        """See ``Dialect``."""
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        state = _state(error)
        return state in self._LOST or (state is None and _is_operational(error))

    def is_of_ours(self, error: Exception) -> bool:
        """See ``Dialect``."""
        return _is_of_ours(error)

    def fault(self, error: Exception) -> DatabaseError | InvariantError:
        """See ``Dialect``."""
        state, seen = _state(error), str(_of_driver(error)).split("\n", maxsplit=1)[0][:200]
        if state in self._FULL:
            return DatabaseError("disk-full", expected=_("room on the disk of the database"), seen=seen)
        if state is not None and state.startswith(_INTEGRITY):
            return InvariantError("rows that fit the tables", seen)
        return DatabaseError("database-unavailable", expected=_("the database to take it"), seen=seen)


USE_SUFFIX: Final = "-use"  # of the file beside a SQLite database on which its users hold a lock
_USE_KEY: Final = "hashtextextended('tallystick:in-use', 0)"
_MOVED: Final = "SELECT 1 FROM deployment WHERE moved_at IS NOT NULL"
_EXCLUDE_TRIES: Final = 20
_EXCLUDE_SECONDS: Final = 0.1
_INTEGRITY: Final = "23"
_WARNING: Final = "01000"


def _in_use(expected: str, seen: str) -> DatabaseError:
    return DatabaseError("database-in-use", expected=_("a database {expected}", expected=expected), seen=seen)


def _of_driver(error: Exception) -> BaseException:
    """The driver's own error."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _state(error: Exception) -> str | None:
    """SQLSTATE, None where the server had no say: the connection failed."""
    return getattr(_of_driver(error), "sqlstate", None)


def _is_of_ours(error: Exception) -> bool:
    return type(_of_driver(error)).__name__ in {"DataError", "NotSupportedError"} or _state_class(error) in {"22", "0A"}


def _state_class(error: Exception) -> str:
    return (_state(error) or "")[:2]


def _is_operational(error: Exception) -> bool:
    return type(_of_driver(error)).__name__ == "OperationalError"


# One after the other, in the order of the list.
_LOCK_NAMES: Final = text(
    "SELECT count(pg_advisory_xact_lock(hashtextextended(name, 0))) FROM unnest(CAST(:names AS text[])) AS name"
)
