"""The statements on the way to a reply: set-based, few, and the same text every time, so that they are planned once.

PostgreSQL gets lists as arrays, and a whole batch of rows of every table in one statement: per batch there are three
round trips that read and one that writes, however many messages it has. SQLite is in this process; a statement costs it
nothing, and rows go in one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from operator import itemgetter
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import BigInteger, Boolean, Connection, Table

from tallystick.activation.ports import Status
from tallystick.activation.storage import tables
from tallystick.activation.storage.rows import Row, Values

Pairs = Sequence[tuple[str, int]]
RowSets = Mapping[str, Sequence[Values]]  # by the names of `WRITES`


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Rows about what happened before: answers, then digests by field server and sequence, then by grant number."""

    answers: Sequence[Row]
    sequences: Sequence[Row]
    grants: Sequence[Row]


class Batches(Protocol):
    """The statements of one engine."""

    def field_servers(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """Field servers, locked in id order where ``locks``."""

    def lines(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """Lines with their products, locked in id order where ``locks``."""

    def owners(self, connection: Connection, host_ids: Sequence[str]) -> Iterable[Row]:
        """Field servers in service by host id, in id order."""

    def past(self, connection: Connection, digests: Sequence[str], sequences: Pairs, grants: Pairs) -> Past:
        """What was answered, which sequences were used (the first message that did), which grants there are."""

    def write(self, connection: Connection, sets: RowSets) -> None:
        """Write every row of every set, in an order that foreign keys take."""


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
        return ", ".join(map(_quoted, self.columns))

    @property
    def others(self) -> list[str]:
        """The columns that are no keys."""
        return [name for name in self.columns if name not in self.keys]

    def conflict(self) -> str:
        """What an upsert does with a row that is there."""
        if self.kind != "upsert":
            return ""
        changes = ", ".join(
            f"{_quoted(name)} = {self.kept.get(name, f'excluded.{_quoted(name)}')}" for name in self.others
        )
        return f" ON CONFLICT ({', '.join(map(_quoted, self.keys))}) DO UPDATE SET {changes}"


def _quoted(name: str) -> str:
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
    *("bought", "available", "held", "returning", "quarantined", "retired", "entries", "chain"),
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
    "incidents": _write("insert", tables.INCIDENTS),
    "declarations": _write("upsert", tables.DECLARATIONS),
    "outbox": _write("insert", tables.OUTBOX),
    "events": _write("insert", tables.EVENTS),
}

_SERVERS: Final = f"SELECT {', '.join(column.name for column in tables.FIELD_SERVERS.c)} FROM field_servers"  # noqa: S608 - constants
# `engineering` of a product marks what is sold as such; a line keeps its own marker.
_LINES: Final = (
    f"SELECT {', '.join(f'lines.{_quoted(column.name)}' for column in tables.LINES.c)}, products.name, products.kinds, "  # noqa: S608 - constants
    "products.features, products.returnable, products.one_carry, products.engineering AS product_engineering "
    "FROM lines JOIN products ON products.sku = lines.sku"
)
_OWNERS: Final = "SELECT host_id, device_id, account FROM field_servers"
_IN_SERVICE: Final = f"status IN ('{Status.ACTIVE.value}', '{Status.HOLD.value}')"
_ANSWER: Final = "SELECT digest, outcome, code, detail, reply FROM messages"


class SqliteBatches:
    """Lists of keys are one JSON parameter: the text of a statement never changes, and no limit is met."""

    _KEYS: Final = "(SELECT value FROM json_each(?))"
    _PAIRS: Final = (
        "(SELECT json_extract(value, '$[0]') AS device_id, json_extract(value, '$[1]') AS number FROM json_each(?))"
    )

    def field_servers(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:  # noqa: ARG002 - the only writer needs no other lock
        """See ``Batches``."""
        statement = f"{_SERVERS} WHERE device_id IN {self._KEYS} ORDER BY device_id"
        return connection.exec_driver_sql(statement, (_json(ids),))

    def lines(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:  # noqa: ARG002 - see above
        """See ``Batches``."""
        statement = f"{_LINES} WHERE line_id IN {self._KEYS} ORDER BY line_id"
        return connection.exec_driver_sql(statement, (_json(ids),))

    def owners(self, connection: Connection, host_ids: Sequence[str]) -> Iterable[Row]:
        """See ``Batches``."""
        statement = f"{_OWNERS} WHERE host_id IN {self._KEYS} AND {_IN_SERVICE} ORDER BY device_id"
        return connection.exec_driver_sql(statement, (_json(host_ids),))

    def past(self, connection: Connection, digests: Sequence[str], sequences: Pairs, grants: Pairs) -> Past:
        """See ``Batches``. (``IN`` over two columns would read a whole table.)"""
        used = (
            f"SELECT found.device_id, found.sequence AS number, found.digest FROM {self._PAIRS} AS wanted "  # noqa: S608 - constants
            "CROSS JOIN messages AS found WHERE found.device_id = wanted.device_id AND found.sequence = wanted.number "
            "ORDER BY found.taken_at, found.digest"
        )
        issued = (
            f"SELECT found.device_id, found.number, found.digest FROM {self._PAIRS} AS wanted "  # noqa: S608 - constants
            "CROSS JOIN grants AS found WHERE found.device_id = wanted.device_id AND found.number = wanted.number"
        )
        run = connection.exec_driver_sql
        return Past(
            answers=run(f"{_ANSWER} WHERE digest IN {self._KEYS}", (_json(digests),)).all() if digests else (),
            sequences=run(used, (_json(sequences),)).all() if sequences else (),
            grants=run(issued, (_json(grants),)).all() if grants else (),
        )

    def write(self, connection: Connection, sets: RowSets) -> None:
        """See ``Batches``."""
        for name in WRITES:
            if rows := sets.get(name):
                statement, columns = self._statement(name)
                connection.exec_driver_sql(statement, _tuples(columns, rows))

    @staticmethod
    @cache
    def _statement(name: str) -> tuple[str, Sequence[str]]:
        write = WRITES[name]
        where = " AND ".join(f"{_quoted(key)} = ?" for key in write.keys)
        match write.kind:
            case "update":
                changes = ", ".join(f"{_quoted(column)} = ?" for column in write.others)
                return f"UPDATE {write.table} SET {changes} WHERE {where}", [*write.others, *write.keys]  # noqa: S608 - constants
            case "delete":
                return f"DELETE FROM {write.table} WHERE {where}", write.keys  # noqa: S608 - constants
            case _:
                places = ", ".join("?" for _ in write.columns)
                statement = f"INSERT INTO {write.table} ({write.names}) VALUES ({places}){write.conflict()}"  # noqa: S608 - constants
                return statement, list(write.columns)


class PostgresBatches:
    """Lists are array literals. Their types stand in the statement, so it is prepared once and not once per type.

    The statements go to the driver as they are: to look for parameters in a long text again and again costs more than
    the rest of sending it. What the driver raises is known to ``PostgresDialect``.
    """

    _PAST: Final = (
        b"SELECT 0 AS kind, NULL AS device_id, NULL::bigint AS number, digest, outcome, code, detail, reply "
        b"FROM messages WHERE digest = ANY($1::text[]) "
        b"UNION ALL SELECT 1, wanted.device_id, wanted.number, found.digest, NULL, NULL, NULL, NULL "
        b"FROM unnest($2::text[], $3::bigint[]) AS wanted(device_id, number), "
        b"LATERAL (SELECT digest FROM messages WHERE messages.device_id = wanted.device_id "
        b"AND messages.sequence = wanted.number ORDER BY taken_at, digest LIMIT 1) AS found "
        b"UNION ALL SELECT 2, wanted.device_id, wanted.number, found.digest, NULL, NULL, NULL, NULL "
        b"FROM unnest($4::text[], $5::bigint[]) AS wanted(device_id, number) "
        b"JOIN grants AS found ON found.device_id = wanted.device_id AND found.number = wanted.number"
    )
    _BY_IDS: Final = {
        (name, locks): f"{select} = ANY($1::text[]) ORDER BY {order}{lock if locks else ''}".encode()
        for name, select, order, lock in (
            ("field_servers", f"{_SERVERS} WHERE device_id", "device_id", " FOR UPDATE"),
            ("lines", f"{_LINES} WHERE line_id", "line_id", " FOR UPDATE OF lines"),
            ("owners", f"{_OWNERS} WHERE {_IN_SERVICE} AND host_id", "device_id", ""),
        )
        for locks in (False, True)
    }

    def field_servers(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """See ``Batches``."""
        return self._run(connection, self._BY_IDS["field_servers", locks], _array("text", ids))

    def lines(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """See ``Batches``."""
        return self._run(connection, self._BY_IDS["lines", locks], _array("text", ids))

    def owners(self, connection: Connection, host_ids: Sequence[str]) -> Iterable[Row]:
        """See ``Batches``."""
        return self._run(connection, self._BY_IDS["owners", False], _array("text", host_ids))

    def past(self, connection: Connection, digests: Sequence[str], sequences: Pairs, grants: Pairs) -> Past:
        """See ``Batches``. One statement: whoever could add to it waits for the field servers that are locked here."""
        parameters = [_array("text", digests)]
        for pairs in (sequences, grants):
            parameters += [_array("text", [pair[0] for pair in pairs]), _array("bigint", [pair[1] for pair in pairs])]
        found: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
        for row in self._run(connection, self._PAST, *parameters):
            found[row.kind].append(row)
        return Past(answers=found[0], sequences=found[1], grants=found[2])

    def write(self, connection: Connection, sets: RowSets) -> None:
        """See ``Batches``. Foreign keys are checked when all of it is there."""
        names = tuple(name for name in WRITES if sets.get(name))
        if not names:
            return
        parameters = [
            _array(column_type, values)
            for name in names
            for column_type, values in zip(
                WRITES[name].columns.values(),
                zip(*_tuples(list(WRITES[name].columns), sets[name]), strict=True),
                strict=True,
            )
        ]
        self._run(connection, self._statement(names), *parameters)

    @staticmethod
    def _run(connection: Connection, statement: bytes, *parameters: str) -> list[Row]:
        import psycopg  # noqa: PLC0415 - an extra, which SQLite does without
        from psycopg.rows import namedtuple_row  # noqa: PLC0415 - see above

        driver: Any = connection.connection.driver_connection
        with psycopg.RawCursor(driver, row_factory=namedtuple_row) as cursor:
            rows: list[Row] = cursor.execute(statement, parameters, prepare=True).fetchall()
        return rows

    @staticmethod
    @cache
    def _statement(names: tuple[str, ...]) -> bytes:
        number = count(1)
        parts = []
        for name in names:
            write = WRITES[name]
            arrays = ", ".join(f"${next(number)}::{column_type}[]" for column_type in write.columns.values())
            rows = f"unnest({arrays}) AS new({write.names})"
            found = " AND ".join(f"old.{_quoted(key)} = new.{_quoted(key)}" for key in write.keys)
            match write.kind:
                case "update":
                    changes = ", ".join(f"{_quoted(column)} = new.{_quoted(column)}" for column in write.others)
                    parts.append(f"UPDATE {write.table} AS old SET {changes} FROM {rows} WHERE {found}")  # noqa: S608 - constants
                case "delete":
                    parts.append(f"DELETE FROM {write.table} AS old USING {rows} WHERE {found}")  # noqa: S608 - constants
                case _:
                    parts.append(f"INSERT INTO {write.table} ({write.names}) SELECT * FROM {rows}{write.conflict()}")  # noqa: S608 - constants
        sets = ", ".join(f"set_{place} AS ({part})" for place, part in enumerate(parts))
        return f"WITH {sets} SELECT 1 AS done".encode()


def _tuples(columns: Sequence[str], rows: Sequence[Values]) -> list[tuple[Any, ...]]:
    """The values of every row, in the order of the columns."""
    if len(columns) == 1:
        return [(row[columns[0]],) for row in rows]
    return list(map(itemgetter(*columns), rows))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _array(column_type: str, values: Sequence[Any]) -> str:
    """A PostgreSQL array literal."""
    if column_type == "text":
        if None not in values:
            joined = '","'.join(values)
            if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):  # nothing to escape, as a rule
                return f'{{"{joined}"}}' if values else "{}"
        return "{" + ",".join("NULL" if value is None else f'"{_escaped(value)}"' for value in values) + "}"
    if column_type == "boolean":
        return "{" + ",".join(["t" if value else "f" for value in values]) + "}"
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"') if "\\" in text or '"' in text else text
