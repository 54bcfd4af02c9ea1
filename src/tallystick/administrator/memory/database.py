"""The file in which Device Administrator remembers: one SQLite database, for one person, safe with two commands at once.

Guarantees: the directory is 0700 and the file 0600 before anything is written; every unit of work is one transaction
that has the write lock from its beginning; it is over before its caller goes on. ``durable`` units are on the disk
(power may fail); the others survive the death of the process, which is enough for what a field server or the activation
server would say again, byte for byte.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tallystick.administrator.memory.run_locks import Marks
from tallystick.directories import make_directory
from tallystick.errors import Error
from tallystick.sentences import _

FILE_NAME: Final = "administrator.sqlite3"
SCHEMA_VERSION: Final = 7
_WAIT_SECONDS: Final = 30.0
_WAL_ATTEMPTS: Final = 100
_WAL_PAUSE_SECONDS: Final = 0.05

_SCHEMA: Final = """
CREATE TABLE field_servers (
  device_id TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, host_id TEXT NOT NULL, address TEXT NOT NULL UNIQUE,
  certificate TEXT NOT NULL, fingerprint TEXT NOT NULL, password TEXT, added_at INTEGER NOT NULL,
  seen_at INTEGER, report BLOB, trouble BLOB
) STRICT;
CREATE TABLE activation_servers (url TEXT PRIMARY KEY, issuer TEXT) STRICT;
CREATE TABLE keysets (issuer TEXT PRIMARY KEY, version INTEGER NOT NULL, root TEXT NOT NULL, compact TEXT NOT NULL) STRICT;
CREATE TABLE entitlements (
  entitlement_id TEXT PRIMARY KEY, issuer TEXT NOT NULL, issued_at INTEGER NOT NULL, compact TEXT NOT NULL,
  added_at INTEGER NOT NULL
) STRICT;
CREATE TABLE plan (
  device_id TEXT NOT NULL REFERENCES field_servers ON DELETE CASCADE, line_id TEXT NOT NULL,
  activation_id TEXT NOT NULL, quantity INTEGER NOT NULL, planned_at INTEGER NOT NULL, PRIMARY KEY (device_id, line_id)
) STRICT;
CREATE TABLE outbound (
  digest TEXT PRIMARY KEY, device_id TEXT NOT NULL, issuer TEXT NOT NULL, sequence INTEGER NOT NULL,
  purpose TEXT NOT NULL, written_at INTEGER NOT NULL, compact TEXT NOT NULL, gathered_at INTEGER NOT NULL,
  exported_at INTEGER, code TEXT, detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX outbound_by_device ON outbound (device_id, sequence);
CREATE TABLE inbound (
  digest TEXT PRIMARY KEY, device_id TEXT NOT NULL, kind TEXT NOT NULL, request TEXT, compact TEXT NOT NULL,
  kept_at INTEGER NOT NULL, code TEXT, detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX inbound_by_device ON inbound (device_id, kept_at);
CREATE TABLE receipts (
  digest TEXT PRIMARY KEY, device_id TEXT NOT NULL, name TEXT NOT NULL, issuer TEXT NOT NULL, issued_at INTEGER NOT NULL,
  credits BLOB NOT NULL, compact TEXT NOT NULL, kept_at INTEGER NOT NULL
) STRICT;
"""
# What each version added to the one before it.
_UPGRADES: Final = {
    2: """
ALTER TABLE field_servers ADD COLUMN site TEXT NOT NULL DEFAULT '';
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE operations (
  operation INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, begun_at INTEGER NOT NULL, ended_at INTEGER
) STRICT;
CREATE TABLE visits (
  operation INTEGER NOT NULL REFERENCES operations ON DELETE CASCADE, place INTEGER NOT NULL, device_id TEXT NOT NULL,
  name TEXT NOT NULL, goal BLOB NOT NULL, report BLOB, PRIMARY KEY (operation, device_id)
) STRICT;
""",
    3: """
CREATE TABLE taken (place INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE) STRICT;
""",
    4: """
CREATE TABLE frames (
  transfer TEXT NOT NULL, number INTEGER NOT NULL, count INTEGER NOT NULL, piece BLOB NOT NULL, read_at INTEGER NOT NULL,
  PRIMARY KEY (transfer, number)
) STRICT;
""",
    5: """
CREATE TABLE available (line_id TEXT PRIMARY KEY, quantity INTEGER NOT NULL, said_at INTEGER NOT NULL,
  held BLOB NOT NULL) STRICT;
""",
    6: """
ALTER TABLE field_servers ADD COLUMN unproven BLOB;
""",
    7: """
CREATE TABLE departed (
  device_id TEXT NOT NULL, name TEXT NOT NULL, line_id TEXT NOT NULL, quantity INTEGER NOT NULL, removed_at INTEGER NOT NULL,
  PRIMARY KEY (device_id, line_id)
) STRICT;
""",
}


class Database:
    """One connection, shared by the threads of this process under a lock; other processes wait for each other."""

    def __init__(self, connection: sqlite3.Connection, directory: Path | None = None) -> None:
        """``directory``: where its file is; None where it has none."""
        self.marks = Marks(directory)
        self._connection = connection
        self._lock = threading.RLock()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Look without writing."""
        with self._lock, _as_our_error():
            yield self._connection

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Everything that is read inside is of one moment, whatever other threads and processes write meanwhile."""
        with self._lock, _as_our_error():
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def version(self) -> str:
        """Another one after every change, of this process and of others."""
        with self.read() as sql:
            (others,) = sql.execute("PRAGMA data_version").fetchone()
            return f"{others}-{sql.total_changes}"

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One unit of work: all of it, or, when the body raises, nothing."""
        with self._lock, _as_our_error():
            self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()


def open_database(directory: Path) -> Database:
    """Open the database of a directory, or make it. Raises ``Error`` (``database-newer``, ``database-unavailable``)."""
    with _as_our_error():
        path = directory / FILE_NAME
        if not path.exists():
            make_directory(directory)
            directory.chmod(0o700)
            path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        return _prepare(connection, directory)


def open_in_memory() -> Database:
    """The same without a file, for simulations."""
    return _prepare(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))


def _prepare(connection: sqlite3.Connection, directory: Path | None = None) -> Database:
    connection.row_factory = sqlite3.Row
    database = Database(connection, directory)
    try:
        _turn_wal_on(connection)
        connection.execute("PRAGMA foreign_keys=ON")
        with database.write(durable=True):
            _make_schema(connection)
    except BaseException:
        connection.close()
        raise
    return database


def _make_schema(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise Error(
            "database-newer",
            expected=_("a database of version {schema_version}", schema_version=SCHEMA_VERSION),
            seen=_("version {version}", version=version),
        )
    if version == SCHEMA_VERSION:
        return
    steps = [] if version else [_SCHEMA]
    steps += [upgrade for number, upgrade in sorted(_UPGRADES.items()) if number > version]
    for statement in ";".join(steps).split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _turn_wal_on(connection: sqlite3.Connection) -> None:
    """The first two commands at once may meet here, and for this one statement SQLite does not wait by itself."""
    for attempt in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if attempt == _WAL_ATTEMPTS - 1:
                raise
            time.sleep(_WAL_PAUSE_SECONDS)
        else:
            return


@contextmanager
def _as_our_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_FULL:
                code = "disk-full"
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                code = "disk-failed"  # also what a full disk looks like where SQLite maps memory
            case _:
                code = "database-unavailable"
        raise Error(
            code, expected=_("Device Administrator's own database to take and give"), seen=str(error)
        ) from error
    except OSError as error:
        raise Error("disk-failed", expected=_("a data directory that can be written"), seen=str(error)) from error
