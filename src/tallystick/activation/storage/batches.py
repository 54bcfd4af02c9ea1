"""The statements on the way to a reply: set-based, few, and the same text every time, so that they are planned once.

PostgreSQL gets lists as arrays, and a whole batch of rows of every table in one statement: a batch asks in one round
trip and writes in another, however many messages it has. SQLite is in this process; a statement costs it nothing, and
rows go in one by one.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, starmap
from operator import itemgetter
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import BigInteger, Boolean, Connection, Table

from tallystick.activation.core.ports import Status
from tallystick.activation.storage import pipeline, tables
from tallystick.activation.storage.pipeline import Statement
from tallystick.activation.storage.rows import Row, Values

Pairs = Sequence[tuple[str, int]]
RowSets = Mapping[str, Sequence[Values]]  # by the names of `WRITES`

FEW_ROWS: Final = 28  # up to so many go to PostgreSQL one by one; measured: four messages of seven rows


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
        return ", ".join(map(_quoted, self.columns))

    @property
    def others(self) -> list[str]:
        """The columns that are no keys."""
        return [name for name in self.columns if name not in self.keys]

    def row_statement(self, places: Mapping[str, str]) -> str:
        """The statement for one row, with ``places`` where its values go."""
        where = " AND ".join(f"{_quoted(key)} = {places[key]}" for key in self.keys if key in places)
        match self.kind:
            case "update":
                changes = ", ".join(f"{_quoted(column)} = {places[column]}" for column in self.others)
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
    """Lists of keys are one JSON parameter: the text of a statement never changes, and no limit is met.

    The driver is asked directly.
    """

    _KEYS: Final = "(SELECT value FROM json_each(?))"
    _PAIRS: Final = (
        "(SELECT json_extract(value, '$[0]') AS device_id, json_extract(value, '$[1]') AS number FROM json_each(?))"
    )

    def field_servers(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Sequence[Row]:  # noqa: ARG002 - the only writer needs no other lock
        """See ``Batches``."""
        return self._ask(connection, f"{_SERVERS} WHERE device_id IN {self._KEYS} ORDER BY device_id", _json(ids))

    def lines(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:  # noqa: ARG002 - see above
        """See ``Batches``."""
        return self._ask(connection, f"{_LINES} WHERE line_id IN {self._KEYS} ORDER BY line_id", _json(ids))

    def owners(self, connection: Connection, host_ids: Sequence[str]) -> Iterable[Row]:
        """See ``Batches``."""
        statement = f"{_OWNERS} WHERE host_id IN {self._KEYS} AND {_IN_SERVICE} ORDER BY device_id"
        return self._ask(connection, statement, _json(host_ids))

    def asked(self, connection: Connection, asked: BatchKeys, *, locks: bool) -> BatchRows:
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
        lines = (
            f"{_LINES} WHERE line_id IN (SELECT value FROM json_each(?) "  # noqa: S608 - constants
            f"UNION SELECT line_id FROM holdings WHERE device_id IN {self._KEYS}) ORDER BY line_id"
        )
        answers = f"{_ANSWER} WHERE digest IN {self._KEYS}"
        return BatchRows(
            field_servers=self.field_servers(connection, asked.field_servers, locks=locks),
            past=BatchPast(
                answers=self._ask(connection, answers, _json(asked.digests)),
                sequences=self._ask(connection, used, _json(asked.sequences)),
                grants=self._ask(connection, issued, _json(asked.grants)) if asked.grants else (),
            ),
            lines=self._ask(connection, lines, _json(asked.lines), _json(asked.field_servers)),
        )

    def write(self, connection: Connection, sets: RowSets, *, commits: bool = False) -> None:  # noqa: ARG002 - who begins, commits
        """See ``Batches``."""
        for name in WRITES:
            if rows := sets.get(name):
                statement, columns = self._statement(name)
                _driver(connection).executemany(statement, _tuples(columns, rows))

    @staticmethod
    def _ask(connection: Connection, statement: str, *parameters: str) -> list[Row]:
        cursor = _driver(connection).execute(statement, parameters)
        return list(starmap(_row_kind(tuple(column[0] for column in cursor.description)), cursor))

    @staticmethod
    @cache
    def _statement(name: str) -> tuple[str, Sequence[str]]:
        write = WRITES[name]
        # A place has no number here: they are counted as they stand in the statement, keys last.
        columns = [*write.others, *write.keys] if write.kind == "update" else list(write.columns)
        return write.row_statement(dict.fromkeys(write.columns, "?")), columns


class PostgresBatches:
    """Lists are array literals, and what belongs together goes together: see ``pipeline``.

    A batch asks in one round trip and writes in another, with its commit. The rows of a batch are written by one
    statement that takes columns as arrays; the few rows of a message or two by a statement each, which cost less to
    begin and more a row.
    """

    _BY_IDS: Final = {
        (name, locks): f"{select} = ANY($1::text[]) ORDER BY {order}{lock if locks else ''}".encode()
        for name, select, order, lock in (
            ("field_servers", f"{_SERVERS} WHERE device_id", "device_id", " FOR UPDATE"),
            ("lines", f"{_LINES} WHERE line_id", "line_id", " FOR UPDATE OF lines"),
            ("owners", f"{_OWNERS} WHERE {_IN_SERVICE} AND host_id", "device_id", ""),
        )
        for locks in (False, True)
    }
    # One line after the other, in id order: so they are locked in that order, and found by their keys.
    _WANTED_LINES: Final = {
        locks: (
            "SELECT found.* FROM (SELECT unnest($1::text[]) AS line_id "  # noqa: S608 - constants
            "UNION SELECT line_id FROM holdings WHERE device_id = ANY($2::text[]) ORDER BY line_id) AS wanted "
            f"CROSS JOIN LATERAL ({_LINES} WHERE lines.line_id = wanted.line_id LIMIT 1{lock}) AS found"
        ).encode()
        for locks, lock in ((False, ""), (True, " FOR UPDATE OF lines"))
    }
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

    def asked(self, connection: Connection, asked: BatchKeys, *, locks: bool) -> BatchRows:
        """See ``Batches``. Whoever could add to the past waits for the field servers that are locked before it."""
        ids = _array("text", asked.field_servers)
        statements = [
            Statement(self._BY_IDS["field_servers", locks], [ids]),
            Statement(self._PAST, [_array("text", asked.digests), *_pairs(asked.sequences), *_pairs(asked.grants)]),
            Statement(self._WANTED_LINES[locks], [_array("text", asked.lines), ids]),
        ]
        servers, past, lines = pipeline.run(connection, statements)
        found: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
        for row in past:
            found[row.kind].append(row)
        answers, sequences, grants = found
        return BatchRows(
            field_servers=servers, past=BatchPast(answers=answers, sequences=sequences, grants=grants), lines=lines
        )

    def field_servers(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """See ``Batches``."""
        return self._one(connection, self._BY_IDS["field_servers", locks], _array("text", ids))

    def lines(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:
        """See ``Batches``."""
        return self._one(connection, self._BY_IDS["lines", locks], _array("text", ids))

    def owners(self, connection: Connection, host_ids: Sequence[str]) -> Iterable[Row]:
        """See ``Batches``."""
        return self._one(connection, self._BY_IDS["owners", False], _array("text", host_ids))

    def write(self, connection: Connection, sets: RowSets, *, commits: bool = False) -> None:
        """See ``Batches``. Foreign keys are checked when all of it is there."""
        names = tuple(name for name in WRITES if sets.get(name))
        if sum(len(sets[name]) for name in names) <= FEW_ROWS:
            statements = [
                Statement(self._row_statement(name), [_text(row[column]) for column in WRITES[name].columns])
                for name in names
                for row in sets[name]
            ]
        else:
            statements = [Statement(self._batch_statement(names), self._columns(names, sets))]
        pipeline.run(connection, statements, commits=commits)

    @staticmethod
    def _one(connection: Connection, text: bytes, parameter: bytes) -> list[Row]:
        return pipeline.run(connection, [Statement(text, [parameter])])[0]

    @staticmethod
    def _columns(names: Sequence[str], sets: RowSets) -> list[bytes]:
        return [
            _array(column_type, values)
            for name in names
            for column_type, values in zip(
                WRITES[name].columns.values(),
                zip(*_tuples(list(WRITES[name].columns), sets[name]), strict=True),
                strict=True,
            )
        ]

    @staticmethod
    @cache
    def _row_statement(name: str) -> bytes:
        write = WRITES[name]
        places = {
            column: f"${place}::{column_type}" for place, (column, column_type) in enumerate(write.columns.items(), 1)
        }
        return write.row_statement(places).encode()

    @staticmethod
    @cache
    def _batch_statement(names: tuple[str, ...]) -> bytes:
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


def _driver(connection: Connection) -> Any:
    """What SQLAlchemy adds to a statement and to every row of it costs more than SQLite itself."""
    return connection.connection.driver_connection


@cache
def _row_kind(names: tuple[str, ...]) -> Callable[..., Row]:
    return namedtuple("Row", names)  # noqa: PYI024 - its names are known at run time


def _tuples(columns: Sequence[str], rows: Sequence[Values]) -> list[tuple[Any, ...]]:
    """The values of every row, in the order of the columns."""
    if len(columns) == 1:
        return [(row[columns[0]],) for row in rows]
    return list(map(itemgetter(*columns), rows))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: Any) -> bytes | None:
    """A value of any of our types, as PostgreSQL reads it."""
    if value is None:
        return None
    if value is True or value is False:
        return b"t" if value else b"f"
    return value.encode() if isinstance(value, str) else b"%d" % value


def _pairs(pairs: Pairs) -> list[bytes]:
    """A column of texts and one of numbers."""
    return [_array("text", [pair[0] for pair in pairs]), _array("bigint", [pair[1] for pair in pairs])]


def _array(column_type: str, values: Sequence[Any]) -> bytes:
    """A PostgreSQL array literal."""
    if column_type == "text":
        if None not in values:
            joined = '","'.join(values)
            if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):  # nothing to escape, as a rule
                return f'{{"{joined}"}}'.encode() if values else b"{}"
        return ("{" + ",".join("NULL" if value is None else f'"{_escaped(value)}"' for value in values) + "}").encode()
    if column_type == "boolean":
        return ("{" + ",".join(["t" if value else "f" for value in values]) + "}").encode()
    return ("{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}").encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"') if "\\" in text or '"' in text else text
