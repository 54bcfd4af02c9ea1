"""``activation verify``: the books (``core.verification``), and every row that a person could have changed unseen.

The audit trail is chained like the ledger, and its end is kept apart. Sealed rows are what they were when they were written.
What stands in two places is the same in both: the account of an entry and of its line; a declaration and the record of it;
positions of events without a gap up to the last one that was given. Nothing is changed, and memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Table, func, select, tuple_

from tallystick.activation.core.trail import Record
from tallystick.activation.core.verification import Report, verify_books
from tallystick.activation.storage.seals import SEALED, seal_of
from tallystick.activation.storage.tables import (
    DECLARATIONS,
    ENTITLEMENTS,
    ENTRIES,
    EVENTS,
    HEADS,
    HOLDINGS,
    LINES,
    MARKS,
    METADATA,
    TRAIL,
)
from tallystick.activation.storage.transaction import SqlTransaction

_ROWS: Final = 1000
_FAULTS_MAX: Final = 100  # of one kind; the first ones say where to look


def verify_database(transaction: SqlTransaction) -> Report:
    """Everything that ``verify`` looks at, in one transaction."""
    books = verify_books(transaction)
    connection = transaction.connection
    checks = (_trail, _stream, _accounts, _declared, _seals)
    faults = [fault for check in checks for fault in islice(check(connection), _FAULTS_MAX)]
    return replace(books, faults=(*books.faults, *faults))


def _trail(connection: Connection) -> Iterator[str]:
    number, chain = 0, ""
    for row in _pages(connection, TRAIL):
        record = Record(**row)
        if record.chain != record.chained(chain):
            yield f"record {record.number} of the audit trail is not chained to record {number}"
            return
        number, chain = record.number, record.chain
    head = connection.execute(select(HEADS).where(HEADS.c.name == TRAIL.name)).first()
    seen = (head.number, head.chain) if head else (0, "")
    if seen != (number, chain):
        yield f"the audit trail ends at record {number}, its chain at record {seen[0]}"


def _stream(connection: Connection) -> Iterator[str]:
    last = connection.execute(select(MARKS.c.value).where(MARKS.c.name == "event-position")).scalar() or 0
    found = select(func.count(), func.min(EVENTS.c.position), func.max(EVENTS.c.position))
    count, lowest, highest = connection.execute(found).one()
    if count and (highest != last or count != highest - lowest + 1):
        yield f"{count} events from position {lowest} to {highest}, of which the last is {last}: some are missing"


def _accounts(connection: Connection) -> Iterator[str]:
    for table in (ENTRIES, HOLDINGS):
        wrong = select(table.c.line_id, func.count().label("count")).join(LINES, LINES.c.line_id == table.c.line_id)
        wrong = wrong.where(table.c.account.is_distinct_from(LINES.c.account)).group_by(table.c.line_id)
        for row in connection.execute(wrong.order_by(table.c.line_id)):
            yield f"line {row.line_id}: {row.count} {table.name} of another account"
    joined = select(LINES.c.line_id).join(ENTITLEMENTS, ENTITLEMENTS.c.entitlement_id == LINES.c.entitlement_id)
    for row in connection.execute(joined.where(LINES.c.account != ENTITLEMENTS.c.account).order_by(LINES.c.line_id)):
        yield f"line {row.line_id}: its entitlement is of another account"


def _declared(connection: Connection) -> Iterator[str]:
    """The trail says which declarations there must be. Its own chain says that no record of it is missing."""
    same = (DECLARATIONS.c.device_id == TRAIL.c.target) & (DECLARATIONS.c.at == TRAIL.c.at)
    missing = select(TRAIL.c.number, TRAIL.c.target).join(DECLARATIONS, same, isouter=True)
    missing = missing.where(TRAIL.c.action == "declare-lost", DECLARATIONS.c.device_id.is_(None))
    for row in connection.execute(missing.order_by(TRAIL.c.number)):
        yield f"field server {row.target}: the declaration that record {row.number} of the audit trail tells is missing"


def _seals(connection: Connection) -> Iterator[str]:
    for name in SEALED:
        table = METADATA.tables[name]
        keys = [column.name for column in table.primary_key]
        for row in _pages(connection, table):
            if row["seal"] != seal_of(name, row):
                yield f"a row of {name} was changed: {', '.join(str(row[key]) for key in keys)}"


def _pages(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """Every row in the order of its key."""
    keys = list(table.primary_key)
    page = select(table).order_by(*keys).limit(_ROWS)
    place: tuple[Any, ...] | None = None
    while True:
        after = page if place is None else page.where(tuple_(*keys) > tuple_(*place))
        rows = connection.execute(after).mappings().all()
        for row in rows:
            yield dict(row)
        if len(rows) < _ROWS:
            return
        place = tuple(rows[-1][key.name] for key in keys)
