"""Statements of PostgreSQL on libpq itself: as many as wanted in one round trip, and the commit with them.

What a driver does around one statement (look for parameters in its text, choose formats, keep a cursor) costs as much as
a small statement does, and each waits for the one before. Here, statements go out together, prepared once for each
connection, and their results are awaited together, without the GIL. The transaction begins with the first of
them. It reads what is committed: each statement sees everything that a lock of an earlier one has waited for.

Guarantees: an error of the server is raised as psycopg's, and the connection is in order; whatever else goes wrong
leaves a closed connection, never one that waits for results. Leaves to others: what an error means (``dialects``).
"""

from __future__ import annotations

import select
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

WARNED: Final = "tallystick_warned"  # in what is kept with a connection: the warning that came with a commit,
COMMITTED: Final = "tallystick_committed"  # that the commit was sent from here,
_PREPARED: Final = "tallystick_prepared"  # and its statements, by their texts

_BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_COMMIT: Final = b"COMMIT"


class Statement(NamedTuple):
    """A statement with places ``$1``, ``$2``, ..., and what stands there, as text."""

    text: bytes
    parameters: Sequence[bytes | None]


@dataclass(slots=True)
class _Prepared:
    name: bytes
    make_row: Callable[[Sequence[Any]], Any] | None = None


def run(connection: Connection, statements: Sequence[Statement], *, commits: bool = False) -> list[list[Any]]:
    """The rows of each statement, as named tuples. ``commits``: end the transaction with them.

    Raises what psycopg raises.
    """
    driver: Any = connection.connection.driver_connection
    prepared: dict[bytes, _Prepared] = connection.info.setdefault(_PREPARED, {})
    if commits:
        connection.info.pop(WARNED, None)  # what was said before
        connection.info[COMMITTED] = True
    try:
        return _run(driver, statements, prepared, commits=commits)
    except BaseException:
        connection.info.pop(COMMITTED, None)
        if driver.pgconn.pipeline_status:
            driver.close()
        raise


def _run(
    driver: Any, statements: Sequence[Statement], prepared: dict[bytes, _Prepared], *, commits: bool
) -> list[list[Any]]:
    import psycopg  # noqa: PLC0415 - an extra, which SQLite does without

    pg = driver.pgconn
    sent: list[_Prepared | bytes | None] = []  # for each result: whose rows, which text was prepared, or nothing
    is_begun = pg.transaction_status != psycopg.pq.TransactionStatus.IDLE
    pg.enter_pipeline_mode()
    if not is_begun:
        pg.send_query_params(_BEGIN, None)
        sent.append(None)
    for text, parameters in statements:
        if any(b"\0" in parameter for parameter in parameters if parameter):
            raise psycopg.DataError("no NUL in a text")  # libpq would end the text there, and say nothing
        known = prepared.get(text)
        if known is None:
            known = prepared[text] = _Prepared(b"tallystick_%d" % next(_NUMBERS))
            pg.send_prepare(known.name, text)
            sent.append(text)
        pg.send_query_prepared(known.name, parameters)
        sent.append(known)
    if commits:
        pg.send_query_params(_COMMIT, None)
        sent.append(None)
    pg.pipeline_sync()
    results = _results(pg, psycopg)
    pg.exit_pipeline_mode()

    refused = None
    rows: list[list[Any]] = []
    transformer = psycopg.adapt.Transformer(driver)
    for what, result in zip(sent, results, strict=True):
        if result.status not in _DONE:
            refused = refused or result  # the first one is the reason, those behind it were not looked at
            if isinstance(what, bytes):
                del prepared[what]
        elif isinstance(what, _Prepared):
            rows.append(_rows(what, result, transformer) if result.ntuples else [])
    if refused is not None:
        error = psycopg.errors.error_from_result(refused)
        if isinstance(error, psycopg.errors.InvalidSqlStatementName):
            prepared.clear()  # somebody has the server forget them, a pooler between us, say
        raise error
    return rows


def _results(pg: Any, psycopg: Any) -> list[Any]:
    """What the server answers, up to the point where both are done. Memory is what they hold, twice."""
    poll = select.poll()
    poll.register(pg.socket, select.POLLIN | select.POLLOUT)
    while pg.flush():
        for _, event in poll.poll():
            if event & ~select.POLLOUT:
                pg.consume_input()
    poll.modify(pg.socket, select.POLLIN)
    results: list[Any] = []
    was_between = False
    while True:
        while pg.is_busy():
            poll.poll()
            pg.consume_input()
        result = pg.get_result()
        if result is None and was_between:
            raise psycopg.OperationalError("the connection was lost between two results")
        was_between = result is None
        if result is None:
            continue
        if result.status == _SYNC:
            return results
        results.append(result)


def _rows(prepared: _Prepared, result: Any, transformer: Any) -> list[Any]:
    if prepared.make_row is None:
        names = [result.fname(place).decode() for place in range(result.nfields)]
        prepared.make_row = getattr(namedtuple("Row", names), "_make")  # noqa: B009, PYI024 - the names are the statement's
    transformer.set_pgresult(result)
    found: list[Any] = transformer.load_rows(0, result.ntuples, prepared.make_row)
    return found


_NUMBERS: Final = count(1)
_DONE: Final = frozenset({1, 2})  # PGRES_COMMAND_OK, PGRES_TUPLES_OK of libpq
_SYNC: Final = 10  # PGRES_PIPELINE_SYNC
