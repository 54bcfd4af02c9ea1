"""A batch on PostgreSQL: lists go as arrays, all reading in one round trip, all writing in another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count
from typing import Any, Final

from sqlalchemy import Connection

from tallystick.activation.storage import pipeline
from tallystick.activation.storage.batches import (
    IN_SERVICE_SQL,
    LINES_SQL,
    OWNERS_SQL,
    SERVERS_SQL,
    WRITES,
    BatchKeys,
    BatchPast,
    BatchRows,
    Pairs,
    RowSets,
    quoted,
    tuples,
)
from tallystick.activation.storage.pipeline import Statement
from tallystick.activation.storage.rows import Row

FEW_ROWS: Final = 28  # up to so many go one by one; measured: four messages of seven rows


class PostgresBatches:
    """Lists are array literals, and what belongs together goes together: see ``pipeline``.

    A batch asks in one round trip and writes in another, with its commit. The rows of a batch are written by one
    statement that takes columns as arrays; the few rows of a message or two by a statement each, which cost less to
    begin and more a row.
    """

    _BY_IDS: Final = {
        (name, locks): f"{select} = ANY($1::text[]) ORDER BY {order}{lock if locks else ''}".encode()
        for name, select, order, lock in (
            ("field_servers", f"{SERVERS_SQL} WHERE device_id", "device_id", " FOR UPDATE"),
            ("lines", f"{LINES_SQL} WHERE line_id", "line_id", " FOR UPDATE OF lines"),
            ("owners", f"{OWNERS_SQL} WHERE {IN_SERVICE_SQL} AND host_folded", "device_id", ""),
        )
        for locks in (False, True)
    }
    # One line after the other, in id order: so they are locked in that order, and found by their keys.
    _WANTED_LINES: Final = {
        locks: (
            "SELECT found.* FROM (SELECT unnest($1::text[]) AS line_id "  # noqa: S608 - constants
            "UNION SELECT line_id FROM holdings WHERE device_id = ANY($2::text[]) ORDER BY line_id) AS wanted "
            f"CROSS JOIN LATERAL ({LINES_SQL} WHERE lines.line_id = wanted.line_id LIMIT 1{lock}) AS found"
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
                zip(*tuples(list(WRITES[name].columns), sets[name]), strict=True),
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
            found = " AND ".join(f"old.{quoted(key)} = new.{quoted(key)}" for key in write.keys)
            match write.kind:
                case "update":
                    changes = ", ".join(f"{quoted(column)} = new.{quoted(column)}" for column in write.others)
                    parts.append(f"UPDATE {write.table} AS old SET {changes} FROM {rows} WHERE {found}")  # noqa: S608 - constants
                case "delete":
                    parts.append(f"DELETE FROM {write.table} AS old USING {rows} WHERE {found}")  # noqa: S608 - constants
                case _:
                    parts.append(f"INSERT INTO {write.table} ({write.names}) SELECT * FROM {rows}{write.conflict()}")  # noqa: S608 - constants
        sets = ", ".join(f"set_{place} AS ({part})" for place, part in enumerate(parts))
        return f"WITH {sets} SELECT 1 AS done".encode()


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
