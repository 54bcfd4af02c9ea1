"""A whole database into another one, in one transaction: SQLite to PostgreSQL, when it grows.

Guarantees: the copy is there whole or not at all; before it is committed, every table was counted and the books of the
copy were recomputed from its ledger. Nothing is written to the source, and nobody else writes there meanwhile. Leaves
to others: that no activation server goes on with the source afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, Table, func, insert, select

from tallystick.activation.core.verification import Report, verify_books
from tallystick.activation.storage.dialects import WRITING, DatabaseError
from tallystick.activation.storage.store import SqlStore
from tallystick.activation.storage.tables import METADATA
from tallystick.activation.storage.transaction import SqlTransaction
from tallystick.errors import InvariantError

_ROWS: Final = 2000  # in memory at once


def copy_database(source: SqlStore, target: SqlStore, *, advance: Callable[[str, int], None]) -> Report:
    """Copy every row, verify the copy, commit. ``advance`` is told how many rows of which table were copied.

    Raises ``DatabaseError`` (``already-initialised`` where the target has rows), ``InvariantError`` where the copy
    does not add up.
    """
    failing = source
    try:
        with source.engine.connect() as reading, reading.execution_options(**WRITING).begin():
            failing = target
            with target.engine.connect() as writing, writing.execution_options(**WRITING).begin():
                target.dialect.wait_without_end(writing)
                _check_empty(writing)
                for table in METADATA.sorted_tables:
                    advance(table.name, _copy(reading, writing, table))
                target.dialect.number_on(writing)
                report = verify_books(SqlTransaction(writing, target.dialect, locks=False))
                if not report.is_green:
                    raise InvariantError("a copy that adds up", report.faults[0])
        return report
    except (*source.dialect.errors, *target.dialect.errors) as error:
        raise failing.dialect.fault(error) from error


def _check_empty(connection: Connection) -> None:
    for table in METADATA.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise DatabaseError(
                "already-initialised", expected="a database without a row", seen=f"rows in its table {table.name}"
            )


def _copy(reading: Connection, writing: Connection, table: Table) -> int:
    copied = 0
    with reading.execution_options(yield_per=_ROWS).execute(select(table)) as rows:
        for page in rows.mappings().partitions():
            writing.execute(insert(table), [dict(row) for row in page])
            copied += len(page)
    there = writing.execute(select(func.count()).select_from(table)).scalar()
    if there != copied:
        raise InvariantError(f"{copied} rows in the copy of {table.name}", f"{there}")
    return copied
