"""The real SQL store in a simulated world: SQLite in this process's memory, with faults at its commits.

Guarantees: what is decided is loaded from SQL and written to SQL; the same changes go to tables in memory, and
``compare`` finds every row in which the two differ. Both are copied and put back together. Leaves to others: locks and
several processes (``make history``), and what reaches a disk (``make powercuts``).
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from tallystick.activation.core.ports import Changes, Past, ServiceClock, Transaction
from tallystick.activation.storage import copying, pruning, schema
from tallystick.activation.storage.dialects import SqliteDialect
from tallystick.activation.storage.store import SqlStore, open_store
from tallystick.activation.storage.transaction import SqlTransaction
from tallystick.domain.catalog import Catalog
from tallystick.domain.entitlement import Entitlement
from tallystick.domain.ids import DeviceId, Digest, LineId
from tallystick.domain.ledger import Entry
from tallystick.simulator.evidence import Violation
from tallystick.simulator.faults import Crash, Fault, SeededStore
from tallystick.simulator.store import MemoryTransaction, Tables

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlSnapshot:
    """A database as it was, and what it should have been."""

    tables: Tables
    database: sqlite3.Connection


class SeededSqlStore(SeededStore):
    """A store as ``SeededStore`` is, on SQL. ``tables`` are what memory says."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self._database = _copy_of(_empty_database())
        dialect = _InMemory(self._database)
        self._store = SqlStore(dialect.open_engine(create=True), dialect)
        self._store.transact(lambda transaction: transaction.save_catalog(tables.catalog))

    def transact(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """As ``Store.transact``; with a fault, it dies before or after the commit, or commits at the second try."""
        fault, self.fault, self.struck = self.fault, None, None
        if fault is Fault.COMMIT_AGAIN:
            self.struck = fault
            self._give_up(work)
        if fault is Fault.COMMIT_LOST:
            self.struck = fault
            self._give_up(work)
            raise Crash
        draft = self.tables.copy()
        result, saved = self._store.transact(lambda transaction: _run(work, transaction, draft))
        self.tables = draft
        self.journal += saved
        if fault is Fault.REPLY_LOST:
            self.struck = fault
            raise Crash
        return result

    def snapshot(self) -> SqlSnapshot:
        """A backup."""
        self.compare()
        return SqlSnapshot(tables=self.tables.copy(), database=_copy_of(self._database))

    def put_back(self, snapshot: Any) -> None:
        """The database is what it was."""
        snapshot.database.backup(self._database)
        self.tables = snapshot.tables.copy()

    def compare(self) -> None:
        """Raises ``Violation`` where SQL holds other values than memory, in what both keep."""
        self._store.read(self._compare)

    def prune(self, *, before: int) -> list[Digest]:
        """Old messages and grants go, as ``tallystick activation prune`` does it. Returns which messages are gone."""
        pruning.prune(self._store, before=before, advance=lambda _: None)
        tables = self.tables = self.tables.copy()
        past = self._store.read(self._past)
        gone = [digest for digest in tables.messages if digest not in past.answers]
        tables.messages = {digest: taken for digest, taken in tables.messages.items() if digest in past.answers}
        tables.sequences = {key: digest for key, digest in tables.sequences.items() if key in past.sequences}
        tables.grants = {key: grant for key, grant in tables.grants.items() if key in past.grants}
        return gone

    def copy_database(self, *, now: int) -> None:
        """Go on with a copy, as ``tallystick activation copy-database`` makes it of a file."""
        copy = _copy_of(_empty_database())
        dialect = _InMemory(copy)
        target = SqlStore(dialect.open_engine(create=True), dialect)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "source.sqlite")
            with contextlib.closing(sqlite3.connect(path)) as file:
                self._database.backup(file)
            source = open_store(f"sqlite:///{path}")
            copying.copy_database(source, target, now=now, advance=lambda _table, _rows: None)
            source.close()
        self._store.close()
        self._database.close()
        self._database, self._store = copy, target

    def close(self) -> None:
        """Forget the database."""
        self._store.close()
        self._database.close()

    def _compare(self, transaction: SqlTransaction) -> None:
        tables = self.tables
        lines: list[Any] = []
        servers: list[Any] = []
        after_line: LineId | None = None
        while found := transaction.find_lines(after=after_line, limit=100):
            lines, after_line = lines + found, found[-1].line_id
        after_device: DeviceId | None = None
        while known := transaction.find_field_servers(after=after_device, limit=100):
            servers, after_device = servers + known, known[-1].device_id
        _same("field servers", {one.device_id: one for one in servers}, tables.field_servers)
        _same("lines", {one.line_id: one for one in lines}, tables.lines)
        kept = transaction.load_holdings(list(tables.lines))
        _same("holdings", {(one.device_id, one.line_id): one for one in kept}, tables.holdings)
        entries = [entry for line_id in tables.lines for entry in transaction.find_entries(line_id)]
        _same("entries", {(one.line_id, one.number): one for one in entries}, tables.entries)
        past = self._past(transaction)
        _same("replies", past.answers, {digest: taken.answer for digest, taken in tables.messages.items()})
        # Which of two messages with one sequence was first is nobody's business: that it is used is.
        _same("sequences", dict.fromkeys(past.sequences), dict.fromkeys(tables.sequences))
        _same("grants", past.grants, {key: grant.digest for key, grant in tables.grants.items()})

    def _past(self, transaction: SqlTransaction) -> Past:
        tables = self.tables
        return transaction.load_asked(
            devices=[],
            digests=list(tables.messages),
            sequences=list(tables.sequences),
            grants=list(tables.grants),
            lines=[],
        ).past

    def _give_up(self, work: Callable[[Transaction], ResultT]) -> None:
        """Run ``work``, and lose the transaction."""

        def lost(transaction: SqlTransaction) -> None:
            _run(work, transaction, self.tables.copy())
            raise Crash

        try:
            self._store.transact(lost)
        except Crash:
            return


class _BothTransactions:
    """The SQL transaction; what is saved goes to memory as well, and is kept for the auditor."""

    def __init__(self, transaction: SqlTransaction, draft: Tables) -> None:
        self._transaction = transaction
        self._memory = MemoryTransaction(draft)
        self.saved: list[Changes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    def save(self, changes: Changes) -> None:
        self._transaction.save(changes)
        self._memory.save(changes)
        self.saved.append(changes)

    def save_entitlement(self, entitlement: Entitlement, entries: Sequence[Entry]) -> None:
        self._transaction.save_entitlement(entitlement, entries)
        self._memory.save_entitlement(entitlement, entries)
        self.saved.append(Changes(lines={line.line_id: line for line in entitlement.lines}, entries=list(entries)))

    def save_clock(self, clock: ServiceClock) -> None:
        self._transaction.save_clock(clock)
        self._memory.save_clock(clock)

    def save_catalog(self, catalog: Catalog) -> None:
        self._transaction.save_catalog(catalog)
        self._memory.save_catalog(catalog)


class _InMemory(SqliteDialect):
    """The same statements on a database that is given."""

    def __init__(self, database: sqlite3.Connection) -> None:
        super().__init__(Path(":memory:"))
        self._database = database

    def open_engine(self, *, create: bool) -> Engine:  # noqa: ARG002 - part of the protocol
        engine = create_engine("sqlite://", creator=lambda: self._database, poolclass=StaticPool)
        event.listen(engine, "begin", self._begin)
        return engine


@cache
def _empty_database() -> sqlite3.Connection:
    """A database with the newest schema and nothing in it."""
    database = _connect()
    dialect = _InMemory(database)
    engine = dialect.open_engine(create=True)
    schema.migrate(engine, dialect)
    return database


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _copy_of(database: sqlite3.Connection) -> sqlite3.Connection:
    copy = _connect()
    database.backup(copy)
    return copy


def _run(
    work: Callable[[Transaction], ResultT], transaction: SqlTransaction, draft: Tables
) -> tuple[ResultT, list[Changes]]:
    both = _BothTransactions(transaction, draft)
    return work(both), both.saved


def _same(what: str, found: Any, wanted: Any) -> None:
    if dict(found) != dict(wanted):
        differ = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        first = differ[0]
        raise Violation(
            "store", f"{what}: SQL and memory differ in {len(differ)}: {found.get(first)} for {wanted.get(first)}"
        )
