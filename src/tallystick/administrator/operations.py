"""Operations that were begun, on disk before anything is sent: what a run that died had still to do is known afterwards.

An operation is a goal for each of some field servers. Every report is kept as it comes. Going on means: the goals whose
field servers have no final report yet; goals are end states, so doing one again changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tallystick.administrator.database import Database
from tallystick.administrator.goals import (
    Activate,
    Goal,
    Refresh,
    Report,
    Result,
    Return,
    ReturnOneCarry,
    Sync,
)
from tallystick.domain.ids import DeviceId
from tallystick.errors import InvariantError

KEPT_MAX: Final = 50
_GOALS: Final = {"activate": Activate, "return": Return, "one-carry": ReturnOneCarry, "refresh": Refresh, "sync": Sync}
_NAMES: Final = {kind: name for name, kind in _GOALS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One field server's part. ``report`` is None while there is none."""

    device_id: DeviceId
    name: str
    goal: Goal
    report: Report | None = None

    @property
    def is_open(self) -> bool:
        """Whether going on would try it."""
        return self.report is None or self.report.result is Result.INTERRUPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a person began. ``ended_at`` is None while it runs, and for ever where the run died."""

    number: int
    kind: str
    begun_at: int
    ended_at: int | None
    visits: tuple[Visit, ...]

    @property
    def open_goals(self) -> dict[DeviceId, Goal]:
        """What going on has to do."""
        return {visit.device_id: visit.goal for visit in self.visits if visit.is_open}


def kind_of(goals: Mapping[DeviceId, Goal]) -> str:
    """What a person calls it."""
    names = {_NAMES[type(goal)] for goal in goals.values()}
    return names.pop() if len(names) == 1 else "sync"


class Operations:
    """The newest operations, on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, goals: Mapping[DeviceId, Goal], *, names: Mapping[DeviceId, str], now: int) -> int:
        """Keep the goals; their number. The oldest operations that ended are forgotten."""
        with self._database.write(durable=True) as sql:
            number = sql.execute(
                "INSERT INTO operations (kind, begun_at) VALUES (?, ?)", (kind_of(goals), now)
            ).lastrowid
            if number is None:
                raise InvariantError("a number of the new operation", "none")
            sql.executemany(
                "INSERT INTO visits (operation, place, device_id, name, goal) VALUES (?, ?, ?, ?, ?)",
                [
                    (number, place, device_id, names.get(device_id, device_id[:12]), _encode(goal))
                    for place, (device_id, goal) in enumerate(goals.items())
                ],
            )
            sql.execute("DELETE FROM operations WHERE ended_at IS NOT NULL AND operation <= ?", (number - KEPT_MAX,))
        return number

    def keep(self, number: int, report: Report) -> None:
        """One field server's part has ended."""
        with self._database.write() as sql:
            sql.execute(
                "UPDATE visits SET report = ? WHERE operation = ? AND device_id = ?",
                (msgspec.json.encode(report), number, report.device_id),
            )

    def end(self, number: int, *, now: int) -> None:
        """Nothing of it runs any more."""
        with self._database.write(durable=True) as sql:
            sql.execute("UPDATE operations SET ended_at = ? WHERE operation = ?", (now, number))

    def resume(self, number: int) -> None:
        """It goes on."""
        with self._database.write() as sql:
            sql.execute("UPDATE operations SET ended_at = NULL WHERE operation = ?", (number,))

    def operation(self, number: int) -> Operation | None:
        """One by its number."""
        with self._database.read() as sql:
            row = sql.execute("SELECT * FROM operations WHERE operation = ?", (number,)).fetchone()
            if row is None:
                return None
            return _operation(row, _visits(sql, number))

    def unended(self) -> list[int]:
        """Numbers of operations that run, here or in another process, or whose run died; newest first."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT operation FROM operations WHERE ended_at IS NULL ORDER BY operation DESC")
            return [row["operation"] for row in rows]

    def newest(self) -> list[tuple[int, str, int, int | None, int]]:
        """Number, kind, begun at, ended at and how many field servers, newest first."""
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT o.*, (SELECT count(*) FROM visits v WHERE v.operation = o.operation) AS visits"
                " FROM operations o ORDER BY operation DESC LIMIT ?",
                (KEPT_MAX,),
            )
            return [(row["operation"], row["kind"], row["begun_at"], row["ended_at"], row["visits"]) for row in rows]


def _visits(sql: sqlite3.Connection, number: int) -> Sequence[sqlite3.Row]:
    return sql.execute("SELECT * FROM visits WHERE operation = ? ORDER BY place", (number,)).fetchall()


def _operation(row: sqlite3.Row, visits: Sequence[sqlite3.Row]) -> Operation:
    return Operation(
        number=row["operation"],
        kind=row["kind"],
        begun_at=row["begun_at"],
        ended_at=row["ended_at"],
        visits=tuple(
            Visit(
                device_id=DeviceId(visit["device_id"]),
                name=visit["name"],
                goal=_decode(visit["goal"]),
                report=None if visit["report"] is None else msgspec.json.decode(visit["report"], type=Report),
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
