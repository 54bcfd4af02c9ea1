"""A whole database into another one, in one transaction: SQLite to PostgreSQL, when it grows.

Guarantees: the copy is there whole or not at all; before it is committed, every table was counted and the books of the
copy were recomputed from its ledger. Nobody else uses the source meanwhile, and it is marked as moved before the copy
is there: nothing serves it any more, unless a person announces it as an old backup (``activation restore``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, Table, func, insert, select

from tallystick.activation.core.verification import Report
from tallystick.activation.storage.checking import verify_database
from tallystick.activation.storage.deployment import Deployment, DeploymentTable
from tallystick.activation.storage.dialects import WRITING, DatabaseError
from tallystick.activation.storage.store import SqlStore
from tallystick.activation.storage.tables import METADATA
from tallystick.activation.storage.transaction import SqlTransaction
from tallystick.errors import InvariantError
from tallystick.sentences import _

_ROWS: Final = 2000  # in memory at once


def copy_database(source: SqlStore, target: SqlStore, *, now: int, advance: Callable[[str, int], None]) -> Report:
    """Copy every row, verify the copy, commit. ``advance`` is called with how many rows of which table were copied.

    Raises ``DatabaseError`` (``database-in-use`` where anything else uses the source, ``database-moved`` where it was
    copied before, ``already-initialised`` where the target has rows), ``InvariantError`` where the copy does not add up.
    """
    failing = source
    source.engine.dispose()  # what this process keeps open uses it as well
    try:
        with source.engine.connect() as reading, target.engine.connect() as writing:
            taken = reading.execution_options(**WRITING).begin()
            source.dialect.exclude(reading)
            source.dialect.wait_without_end(reading)
            deployment = DeploymentTable(reading, source.dialect)
            check_not_moved(deployment.load())
            failing = target
            with writing.execution_options(**WRITING).begin():
                target.dialect.wait_without_end(writing)
                _check_empty(writing, target)
                for table in METADATA.sorted_tables:
                    advance(table.name, _copy(reading, writing, table))
                target.dialect.number_on(writing)
                report = verify_database(SqlTransaction(writing, target.dialect, locks=False))
                if not report.is_green:
                    raise InvariantError("a copy that adds up", report.faults[0])
                # First the mark, then the copy: a crash in between leaves one activation server or none, never two.
                deployment.set_moved(now)
                taken.commit()
        return report
    except (*source.dialect.errors, *target.dialect.errors) as error:
        raise failing.dialect.fault(error) from error


def check_not_moved(deployment: Deployment | None) -> None:
    """Raises ``DatabaseError`` (``database-moved``) for what a copy serves in place of."""
    if deployment is not None and deployment.moved_at is not None:
        at = dt.datetime.fromtimestamp(deployment.moved_at, dt.UTC)
        raise DatabaseError(
            "database-moved",
            expected=_("a database that no copy took the place of"),
            seen=_("one copied at {at:%Y-%m-%d %H:%M} UTC", at=at),
        )


def _check_empty(connection: Connection, store: SqlStore) -> None:
    used = DeploymentTable(connection, store.dialect).used_table()
    if used is not None:
        raise DatabaseError(
            "already-initialised", expected=_("a database without a row"), seen=_("rows in its table {used}", used=used)
        )


def _copy(reading: Connection, writing: Connection, table: Table) -> int:
    copied = 0
    with reading.execute(select(table).execution_options(yield_per=_ROWS)) as rows:
        for page in rows.mappings().partitions():
            writing.execute(insert(table), [dict(row) for row in page])
            copied += len(page)
    there = writing.execute(select(func.count()).select_from(table)).scalar()
    if there != copied:
        raise InvariantError(f"{copied} rows in the copy of {table.name}", f"{there}")
    return copied
