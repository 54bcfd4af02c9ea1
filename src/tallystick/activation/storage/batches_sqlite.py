"""A batch on SQLite: it is in this process, a statement costs it nothing, and rows go in one by one."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import starmap
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from tallystick.activation.storage.batches import (
    ANSWER_SQL,
    IN_SERVICE_SQL,
    LINES_SQL,
    OWNERS_SQL,
    SERVERS_SQL,
    WRITES,
    BatchKeys,
    BatchPast,
    BatchRows,
    RowSets,
    tuples,
)
from tallystick.activation.storage.rows import Row


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
        return self._ask(connection, f"{SERVERS_SQL} WHERE device_id IN {self._KEYS} ORDER BY device_id", _json(ids))

    def lines(self, connection: Connection, ids: Sequence[str], *, locks: bool) -> Iterable[Row]:  # noqa: ARG002 - see above
        """See ``Batches``."""
        return self._ask(connection, f"{LINES_SQL} WHERE line_id IN {self._KEYS} ORDER BY line_id", _json(ids))

    def owners(self, connection: Connection, host_ids: Sequence[str]) -> Iterable[Row]:
        """See ``Batches``."""
        statement = f"{OWNERS_SQL} WHERE host_folded IN {self._KEYS} AND {IN_SERVICE_SQL} ORDER BY device_id"
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
            f"{LINES_SQL} WHERE line_id IN (SELECT value FROM json_each(?) "  # noqa: S608 - constants
            f"UNION SELECT line_id FROM holdings WHERE device_id IN {self._KEYS}) ORDER BY line_id"
        )
        answers = f"{ANSWER_SQL} WHERE digest IN {self._KEYS}"
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
                _driver(connection).executemany(statement, tuples(columns, rows))

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


def _driver(connection: Connection) -> Any:
    """What SQLAlchemy adds to a statement and to every row of it costs more than SQLite itself."""
    return connection.connection.driver_connection


@cache
def _row_kind(names: tuple[str, ...]) -> Callable[..., Row]:
    return namedtuple("Row", names)  # noqa: PYI024 - its names are known at run time


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
