"""The audit trail, in the transaction of what it records: each record is chained to the one before."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, insert, select, update

from tallystick.activation.core.permissions import Scope
from tallystick.activation.core.trail import Record
from tallystick.activation.storage.dialects import Dialect
from tallystick.activation.storage.tables import HEADS, TRAIL

_HEAD: Final = "trail"  # the name of its head


class TrailTable:
    """One transaction's view of the audit trail. ``records``: what it saved and has not written yet."""

    def __init__(self, connection: Connection, dialect: Dialect, records: list[Record]) -> None:
        self._connection = connection
        self._dialect = dialect
        self._records = records

    def save(self, record: Record) -> None:
        """One entry of the audit trail. It is written last: see ``write``."""
        self._records.append(record)

    def write(self) -> None:
        """Write what was saved, chained to what is there. Two who write wait for each other until the commit.

        So this comes last in a unit of work: nothing else is waited for by who holds the end of the chain.
        """
        if not self._records:
            return
        first = self._dialect.insert(HEADS).values(name=_HEAD, number=0, chain="")
        self._connection.execute(first.on_conflict_do_nothing())
        head = self._connection.execute(select(HEADS).where(HEADS.c.name == _HEAD).with_for_update()).one()
        number, chain = head.number, head.chain
        values = []
        for record in self._records:
            number += 1
            numbered = replace(record, number=number)
            chain = numbered.chained(chain)
            values.append({name: getattr(numbered, name) for name in TRAIL.c.keys()} | {"chain": chain})  # noqa: SIM118 - columns
        self._records.clear()
        self._connection.execute(insert(TRAIL), values)
        self._connection.execute(update(HEADS).where(HEADS.c.name == _HEAD).values(number=number, chain=chain))

    def find(self, scope: Scope, *, before: int | None = None, limit: int = 100) -> list[Record]:
        """The audit trail of the scope, newest first."""
        statement = select(TRAIL).order_by(TRAIL.c.number.desc()).limit(limit)
        if before is not None:
            statement = statement.where(TRAIL.c.number < before)
        if scope.account is not None:
            statement = statement.where(TRAIL.c.account == scope.account)
        return [Record(**dict(row._mapping)) for row in self._connection.execute(statement)]  # noqa: SLF001 - SQLAlchemy's public name
