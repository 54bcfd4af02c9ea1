"""The statements on the way to a reply: set-based, few, and the same text every time, so that they are planned once.

What both engines share: what a batch asks for and gets, and which rows are written how. The statements of each are in
``batches_sqlite`` and ``batches_postgres``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Protocol

from sqlalchemy import BigInteger, Boolean, Connection, Table

from tallystick.activation.core.ports import Status
from tallystick.activation.storage import tables
from tallystick.activation.storage.rows import Row, Values

Pairs = Sequence[tuple[str, int]]
RowSets = Mapping[str, Sequence[Values]]  # by the names of `WRITES`


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchKeys:
    """What a batch asks for: keys, in order. ``lines`` beside those on which the field servers hold something."""

    field_servers: Sequence[str]
    digests: Sequence[str]
    sequences: Pairs
    grants: Pairs
    lines: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPast:
    """Rows about what happened before.

    What was answered, which sequences were used (the first message that did, before others), which grants there are.
    """

    answers: Sequence[Row]
    sequences: Sequence[Row]
    grants: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """The rows that a batch asked for. Field servers and lines are locked in id order where that is asked for."""

    field_servers: Sequence[Row]
    past: BatchPast
    lines: Sequence[Row]


class Batches(Protocol):
    """The statements of one engine."""

    def field_servers(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """Field servers, locked in id order where ``locks``."""

    def lines(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """Lines with their products, locked in id order where ``locks``."""

    def owners(self, connection: Connection, host_ids: Sequence[str]) -> Iterable[Row]:
        """Field servers in service by host id, in id order."""

    def asked(self, connection: Connection, asked: BatchKeys, *, locks: bool) -> BatchRows:
        """What a batch asks for, in the order of ``BatchRows``; each sees what the locks before it have waited for."""

    def write(self, connection: Connection, sets: RowSets, *, commits: bool = False) -> None:
        """Write every row of every set, in an order that foreign keys take. ``commits``: it may commit as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """How a set of rows is written: ``columns`` of ``table`` with their types on PostgreSQL, ``keys`` that find a row."""

    table: str
    kind: str  # insert, update, upsert, delete
    columns: Mapping[str, str]
    keys: tuple[str, ...]
    kept: Mapping[str, str]  # what an upsert sets a column to, where it is not simply the new value

    @property
    def names(self) -> str:
        """The columns."""
        return ", ".join(map(quoted, self.columns))

    @property
    def others(self) -> list[str]:
        """The columns that are no keys."""
        return [name for name in self.columns if name not in self.keys]

    def row_statement(self, places: Mapping[str, str]) -> str:
        """The statement for one row, with ``places`` where its values go."""
        where = " AND ".join(f"{quoted(key)} = {places[key]}" for key in self.keys if key in places)
        match self.kind:
            case "update":
                changes = ", ".join(f"{quoted(column)} = {places[column]}" for column in self.others)
                return f"UPDATE {self.table} SET {changes} WHERE {where}"  # noqa: S608 - constants
            case "delete":
                return f"DELETE FROM {self.table} WHERE {where}"  # noqa: S608 - constants
            case _:
                values = ", ".join(places.values())
                return f"INSERT INTO {self.table} ({self.names}) VALUES ({values}){self.conflict()}"  # noqa: S608 - constants

    def conflict(self) -> str:
        """What an upsert does with a row that is there."""
        if self.kind != "upsert":
            return ""
        changes = ", ".join(
            f"{quoted(name)} = {self.kept.get(name, f'excluded.{quoted(name)}')}" for name in self.others
        )
        return f" ON CONFLICT ({', '.join(map(quoted, self.keys))}) DO UPDATE SET {changes}"


def quoted(name: str) -> str:
    """A column's name in SQL: `returning` is a word of its own there."""
    return f'"{name}"'


def _write(kind: str, table: Table, columns: Iterable[str] | None = None, **kept: str) -> Write:
    types = {}
    for name in columns or [column.name for column in table.c if column.name != "id"]:
        column_type = table.c[name].type
        types[name] = (
            "bigint"
            if isinstance(column_type, BigInteger)
            else "boolean"
            if isinstance(column_type, Boolean)
            else "text"
        )
    keys = tuple(column.name for column in table.primary_key)
    return Write(table=table.name, kind=kind, columns=types, keys=keys, kept=kept)


LINE_CHANGES: Final = (
    *("line_id", "expires_at", "engineering", "suspended", "frozen"),
    *("bought", "available", "held", "returning", "quarantined", "retired", "entries", "chain", "seal"),
)
WRITES: Final[Mapping[str, Write]] = {
    # A plain INSERT: when two processes meet one device for the first time, the second must not overwrite.
    "new_field_servers": _write("insert", tables.FIELD_SERVERS),
    "field_servers": _write("update", tables.FIELD_SERVERS),
    "lines": _write("update", tables.LINES, LINE_CHANGES),
    "entries": _write("insert", tables.ENTRIES),
    "gone_holdings": _write("delete", tables.HOLDINGS, ("line_id", "device_id")),
    "holdings": _write(  # since when some is returning is kept as long as some is
        "upsert",
        tables.HOLDINGS,
        since_at='CASE WHEN holdings."returning" > 0 AND excluded."returning" > 0 '
        "THEN holdings.since_at ELSE excluded.since_at END",
    ),
    "messages": _write("insert", tables.MESSAGES),
    "grants": _write("insert", tables.GRANTS),
    "proofs": _write("insert", tables.PROOFS),
    "incidents": _write("insert", tables.INCIDENTS),
    "declarations": _write("upsert", tables.DECLARATIONS),
    "outbox": _write("insert", tables.OUTBOX),
    "events": _write("insert", tables.EVENTS),
}

SERVERS_SQL: Final = f"SELECT {', '.join(column.name for column in tables.FIELD_SERVERS.c)} FROM field_servers"  # noqa: S608 - constants
# `engineering` of a product marks what is sold as such; a line keeps its own marker.
LINES_SQL: Final = (
    f"SELECT {', '.join(f'lines.{quoted(column.name)}' for column in tables.LINES.c)}, products.name, products.kinds, "  # noqa: S608 - constants
    "products.features, products.returnable, products.one_carry, products.engineering AS product_engineering "
    "FROM lines JOIN products ON products.sku = lines.sku"
)
OWNERS_SQL: Final = "SELECT host_folded, device_id, account FROM field_servers"
IN_SERVICE_SQL: Final = f"status IN ('{Status.ACTIVE.value}', '{Status.HOLD.value}')"
ANSWER_SQL: Final = "SELECT digest, outcome, code, detail, reply FROM messages"


def tuples(columns: Sequence[str], rows: Sequence[Values]) -> list[tuple[Any, ...]]:
    """The values of every row, in the order of the columns."""
    if len(columns) == 1:
        return [(row[columns[0]],) for row in rows]
    return list(map(itemgetter(*columns), rows))
