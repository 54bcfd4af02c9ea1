"""The store: a unit of work in one transaction, committed before its result is let out.

A work that meets another one (a serialisation failure, a deadlock, two first contacts at once) runs again, from the
beginning; so does, once, a work whose connection was gone before its commit was asked for (the database was restarted
while nobody used it, or another one took over). Every other fault of the database is a ``DatabaseError``, and nothing
of the work is left, with one exception that no client of a database can exclude: the connection is lost while the
commit is under way, or somebody ended its wait for the other PostgreSQL. Then it may be done, and may be lost with
this server; nobody is told that it is done. Whoever repeats a message gets its stored reply, but not before that is
where it is safe: the repetition writes, too (it locks its field server), so its own commit waits for what was before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tallystick.activation.storage import schema
from tallystick.activation.storage.dialects import READING, WRITING, DatabaseError, Dialect, dialect_for
from tallystick.activation.storage.transaction import SqlTransaction
from tallystick.sentences import _

ResultT = TypeVar("ResultT")
_ATTEMPTS_MAX: Final = 12


class SqlStore:
    """``activation.ports.Store`` on a database. Threads may share it."""

    def __init__(self, engine: Engine, dialect: Dialect) -> None:
        self.engine = engine
        self.dialect = dialect

    def transact(self, work: Callable[[SqlTransaction], ResultT]) -> ResultT:
        """See ``activation.ports.Store``. Raises ``DatabaseError``."""
        return self._run(work, writes=True)

    def read(self, work: Callable[[SqlTransaction], ResultT]) -> ResultT:
        """Run ``work``, which writes nothing, on one consistent state. It waits for no writer. Raises ``DatabaseError``."""
        return self._run(work, writes=False)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self.dialect.leave()

    def _run(self, work: Callable[[SqlTransaction], ResultT], *, writes: bool) -> ResultT:
        attempt = losses = 0
        while True:
            attempt += 1
            is_committing = False
            try:
                with self.engine.connect() as connection:
                    connection = connection.execution_options(**(WRITING if writes else READING))  # noqa: PLW2901 - the same one
                    try:
                        with connection.begin():
                            transaction = SqlTransaction(connection, self.dialect, locks=writes)
                            result = work(transaction)
                            is_committing = True
                            transaction.finish()
                        self.dialect.check_commit(connection)
                        return result
                    except self.dialect.errors as error:
                        if self.dialect.is_lost(error):
                            if not connection.invalidated:
                                connection.invalidate()
                            self.engine.dispose()  # what else is kept leads to the same server, which is gone
                        raise
            except self.dialect.errors as error:
                if self.dialect.is_of_ours(error):
                    raise
                if self.dialect.is_lost(error) and not is_committing and not losses:
                    losses += 1
                elif not self.dialect.is_conflict(error) or attempt >= _ATTEMPTS_MAX:
                    raise self.dialect.fault(error) from error
            except PoolTimeoutError as error:
                raise DatabaseError(
                    "database-unavailable", expected=_("a free connection"), seen=_("none in time")
                ) from error
            time.sleep(0.002 * attempt)


def open_store(url: str, *, create: bool = False, service: bool = False) -> SqlStore:
    """Open the database at ``url``. Raises ``DatabaseError``.

    ``create``: it may not exist yet. ``service``: bring the schema of a SQLite file up to date first; otherwise an
    older schema is refused, as a newer one always is.
    """
    dialect = dialect_for(url)
    store = SqlStore(dialect.open_engine(create=create), dialect)
    try:
        dialect.enter()
        schema.check(store.engine, dialect, may_migrate=create or (service and dialect.migrates_itself))
    except dialect.errors as error:
        store.close()
        raise dialect.fault(error) from error
    except BaseException:
        store.close()
        raise
    return store


def migrate_database(url: str) -> tuple[str | None, str]:
    """Bring the schema of the database at ``url`` up to date. Returns the version before and after."""
    dialect = dialect_for(url)
    store = SqlStore(dialect.open_engine(create=False), dialect)
    try:
        return schema.migrate(store.engine, dialect)
    except dialect.errors as error:
        raise dialect.fault(error) from error
    finally:
        store.close()
