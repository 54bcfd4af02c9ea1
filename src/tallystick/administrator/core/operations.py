"""Operations that were begun, on disk before anything is sent: what a run that died had still to do is known afterwards.

An operation is a goal for each of some field servers, begun by a page or by a command, which is the same here. Every
report is kept as it comes. Going on means: the goals whose field servers have no final report yet; goals are end states,
so doing one again changes nothing. What somebody wants of a field server later gives up what was left open for it
earlier, so that going on never undoes a newer wish.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tallystick.administrator.core.goals import (
    Activate,
    Goal,
    GoalResult,
    Refresh,
    Report,
    Return,
    ReturnOneCarry,
    Sync,
    TakeOutOfService,
)
from tallystick.administrator.memory.database import Database
from tallystick.domain.ids import DeviceId
from tallystick.errors import InvariantError
from tallystick.structs import decode_kept, encode_kept

KEPT_MAX: Final = 50
_GOALS: Final = {
    "activate": Activate,
    "return": Return,
    "one-carry": ReturnOneCarry,
    "out-of-service": TakeOutOfService,
    "refresh": Refresh,
    "sync": Sync,
}
_NAMES: Final = {kind: name for name, kind in _GOALS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPart:
    """One field server's part. ``report`` is None while there is none."""

    device_id: DeviceId
    name: str
    goal: Goal
    report: Report | None = None

    @property
    def is_open(self) -> bool:
        """Whether going on would try it."""
        return self.report is None or self.report.result is GoalResult.INTERRUPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a person began. ``ended_at`` is None while it runs, and where it was stopped, or died, with something open."""

    number: int
    kind: str
    begun_at: int
    ended_at: int | None
    visits: tuple[OperationPart, ...]

    @property
    def open_goals(self) -> dict[DeviceId, Goal]:
        """What going on has to do."""
        return {visit.device_id: visit.goal for visit in self.visits if visit.is_open}


def kind_of(goals: Mapping[DeviceId, Goal]) -> str:
    """What a person calls it."""
    names = {_NAMES[type(goal)] for goal in goals.values()}
    return names.pop() if len(names) == 1 else "sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One row of the list of operations. ``open_count``: field servers that going on would try."""

    number: int
    kind: str
    begun_at: int
    ended_at: int | None
    count: int
    open_count: int
    is_running: bool

    @property
    def is_unfinished(self) -> bool:
        """Whether somebody should let it go on, or leave it."""
        return self.ended_at is None and not self.is_running


class Operations:
    """The newest operations, on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._marks = database.marks

    def begin(self, goals: Mapping[DeviceId, Goal], *, names: Mapping[DeviceId, str], now: int) -> int:
        """Keep the goals; their number, for ``run``. Older wishes for the same field servers are given up; the oldest are forgotten."""
        taken: list[int] = []
        try:
            with self._database.write(durable=True) as sql:
                return self._begin(sql, goals, names=names, now=now, taken=taken)
        except BaseException:  # a full disk, say: then there is no such operation
            for number in taken:
                self._marks.let_go(number)
            raise

    def _begin(
        self,
        sql: sqlite3.Connection,
        goals: Mapping[DeviceId, Goal],
        *,
        names: Mapping[DeviceId, str],
        now: int,
        taken: list[int],
    ) -> int:
        number = sql.execute("INSERT INTO operations (kind, begun_at) VALUES (?, ?)", (kind_of(goals), now)).lastrowid
        if number is None:
            raise InvariantError("a number of the new operation", "none")
        _give_up(sql, number, goals, now=now, is_held=self._marks.is_held)
        sql.executemany(
            "INSERT INTO visits (operation, place, device_id, name, goal) VALUES (?, ?, ?, ?, ?)",
            [
                (number, place, device_id, names.get(device_id, device_id[:12]), _encode(goal))
                for place, (device_id, goal) in enumerate(goals.items())
            ],
        )
        sql.execute("DELETE FROM operations WHERE ended_at IS NOT NULL AND operation <= ?", (number - KEPT_MAX,))
        self._marks.take(number)  # before anybody else can see it
        taken.append(number)
        return number

    def do_not_run(self, number: int) -> None:
        """It was begun here, and is left for another time."""
        self._marks.let_go(number)

    @contextmanager
    def run(self, number: int) -> Iterator[None]:
        """While the body runs, so does the operation, for everybody who asks. Raises ``Error`` (``too-busy``)."""
        with self._marks.hold(number) as is_again:
            if is_again:  # what was said of an earlier run; somebody may have said stop to this one since it was begun
                self._ask_to_stop(number, is_asked=False)
            yield

    def is_running(self, number: int) -> bool:
        """Whether it runs, here or in another process."""
        return self._marks.is_held(number)

    def ask_to_stop(self, number: int) -> None:
        """Whoever runs it lets every visit end its step, and begins no other."""
        self._ask_to_stop(number, is_asked=True)

    def is_asked_to_stop(self, number: int) -> bool:
        """Whether somebody said stop."""
        with self._database.read() as sql:
            return sql.execute("SELECT 1 FROM settings WHERE name = ?", (_stop(number),)).fetchone() is not None

    def _ask_to_stop(self, number: int, *, is_asked: bool) -> None:
        with self._database.write() as sql:
            sql.execute("DELETE FROM settings WHERE name = ?", (_stop(number),))
            if is_asked:
                sql.execute("INSERT INTO settings (name, value) VALUES (?, 'yes')", (_stop(number),))

    def keep(self, number: int, report: Report) -> None:
        """One field server's part has ended."""
        with self._database.write() as sql:
            sql.execute(
                "UPDATE visits SET report = ? WHERE operation = ? AND device_id = ?",
                (encode_kept(report), number, report.device_id),
            )

    def end(self, number: int, *, now: int) -> None:
        """Nothing of it runs any more. It has ended where nothing is open; else it may go on."""
        with self._database.write(durable=True) as sql:
            _end(sql, number, now=now)

    def leave(self, number: int, *, now: int) -> None:
        """What is open of it is given up by a person."""
        with self._database.write(durable=True) as sql:
            for row in _visits(sql, number):
                if _is_open(row):
                    _set_given_up(sql, row, "left by a person; what it would have done was not done")
            sql.execute("UPDATE operations SET ended_at = ? WHERE operation = ?", (now, number))

    def operation(self, number: int) -> Operation | None:
        """One by its number."""
        with self._database.read() as sql:
            row = sql.execute("SELECT * FROM operations WHERE operation = ?", (number,)).fetchone()
            if row is None:
                return None
            return _operation(row, _visits(sql, number))

    def unfinished(self) -> list[Operation]:
        """Those that nobody runs and that have not ended, oldest first."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT * FROM operations WHERE ended_at IS NULL ORDER BY operation").fetchall()
            found = [_operation(row, _visits(sql, row["operation"])) for row in rows]
        return [one for one in found if not self._marks.is_held(one.number)]

    def newest(self) -> list[Summary]:
        """Newest first."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT * FROM operations ORDER BY operation DESC LIMIT ?", (KEPT_MAX,)).fetchall()
            visits = {row["operation"]: _visits(sql, row["operation"]) for row in rows}
        return [
            Summary(
                number=row["operation"],
                kind=row["kind"],
                begun_at=row["begun_at"],
                ended_at=row["ended_at"],
                count=len(visits[row["operation"]]),
                open_count=sum(_is_open(visit) for visit in visits[row["operation"]]),
                is_running=row["ended_at"] is None and self._marks.is_held(row["operation"]),
            )
            for row in rows
        ]


def _stop(number: int) -> str:
    return f"stop operation {number}"


def _give_up(
    sql: sqlite3.Connection,
    number: int,
    goals: Mapping[DeviceId, Goal],
    *,
    now: int,
    is_held: Callable[[int], bool],
) -> None:
    """Older open visits to the same field servers: a carrying gives up another carrying, a wish gives up everything."""
    for older in sql.execute("SELECT * FROM operations WHERE ended_at IS NULL AND operation < ?", (number,)).fetchall():
        if is_held(older["operation"]):
            continue
        for row in _visits(sql, older["operation"]):
            goal = goals.get(DeviceId(row["device_id"]))
            if _is_open(row) and goal is not None and (not isinstance(goal, Sync) or older["kind"] == "sync"):
                _set_given_up(sql, row, f"given up: operation {number} was begun for it later")
        _end(sql, older["operation"], now=now)


def _end(sql: sqlite3.Connection, number: int, *, now: int) -> None:
    if not any(_is_open(row) for row in _visits(sql, number)):
        sql.execute("UPDATE operations SET ended_at = ? WHERE operation = ?", (now, number))


def _is_open(row: sqlite3.Row) -> bool:
    return row["report"] is None or decode_kept(row["report"], Report).result is GoalResult.INTERRUPTED


def _set_given_up(sql: sqlite3.Connection, row: sqlite3.Row, why: str) -> None:
    report = Report(device_id=DeviceId(row["device_id"]), name=row["name"], result=GoalResult.LEFT, detail=why)
    sql.execute(
        "UPDATE visits SET report = ? WHERE operation = ? AND device_id = ?",
        (encode_kept(report), row["operation"], row["device_id"]),
    )


def _visits(sql: sqlite3.Connection, number: int) -> Sequence[sqlite3.Row]:
    return sql.execute("SELECT * FROM visits WHERE operation = ? ORDER BY place", (number,)).fetchall()


def _operation(row: sqlite3.Row, visits: Sequence[sqlite3.Row]) -> Operation:
    return Operation(
        number=row["operation"],
        kind=row["kind"],
        begun_at=row["begun_at"],
        ended_at=row["ended_at"],
        visits=tuple(
            OperationPart(
                device_id=DeviceId(visit["device_id"]),
                name=visit["name"],
                goal=_decode(visit["goal"]),
                report=None if visit["report"] is None else decode_kept(visit["report"], Report),
            )
            for visit in visits
        ),
    )


def _encode(goal: Goal) -> bytes:
    return msgspec.json.encode({"kind": _NAMES[type(goal)], "goal": goal})


def _decode(data: bytes) -> Goal:
    document: dict[str, Any] = msgspec.json.decode(data)
    goal: Goal = msgspec.convert(document["goal"], _GOALS[document["kind"]])
    return goal
