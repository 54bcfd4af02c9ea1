"""The frames of QR codes that were read so far, kept until their transfer is whole and a month after the last of them.

Guarantees: a frame that was kept is there after the browser, the program or the computer was closed; frames that
contradict each other are not mixed; there are never more than a few transfers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.administrator.memory.database import Database
from tallystick.errors import Error
from tallystick.protocol.frames import Frame, Gathering
from tallystick.sentences import _

TRANSFERS_MAX: Final = 16
KEPT_SECONDS: Final = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTransfer:
    """What was read of one transfer; ``read_at`` is when the last frame of it came, Unix seconds."""

    gathering: Gathering
    read_at: int


class FrameBox:
    """All transfers, on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, frames: Sequence[Frame], *, now: int) -> list[tuple[Frame, Error]]:
        """Keep frames, of any transfers; those that cannot be kept come back (``frame-contradicts``, ``frames-too-many``)."""
        refused: list[tuple[Frame, Error]] = []
        with self._database.write(durable=True) as sql:
            sql.execute(
                "DELETE FROM frames WHERE transfer IN"
                " (SELECT transfer FROM frames GROUP BY transfer HAVING max(read_at) < ?)",
                (now - KEPT_SECONDS,),
            )
            kept = {one.gathering.transfer: one.gathering for one in _transfers(sql)}
            for frame in frames:
                try:
                    if frame.transfer not in kept:
                        _make_room(sql, kept)
                        kept[frame.transfer] = Gathering(frame.transfer, frame.count, {})
                    if kept[frame.transfer].add(frame):
                        values = (frame.transfer, frame.number, frame.count, frame.piece, now)
                        sql.execute("INSERT INTO frames VALUES (?, ?, ?, ?, ?)", values)
                except Error as error:
                    refused.append((frame, error))
        return refused

    def transfers(self) -> list[KeptTransfer]:
        """What there is, the newest first."""
        with self._database.read() as sql:
            return _transfers(sql)

    def transfer(self, transfer: str) -> Gathering:
        """One of them. Raises ``Error`` (``not-found``)."""
        for one in self.transfers():
            if one.gathering.transfer == transfer:
                return one.gathering
        raise Error("not-found", expected=_("a transfer of which codes were read here"), seen=transfer[:40])

    def forget(self, transfer: str) -> None:
        """Let go of one."""
        with self._database.write() as sql:
            sql.execute("DELETE FROM frames WHERE transfer = ?", (transfer,))


def _make_room(sql: sqlite3.Connection, kept: dict[str, Gathering]) -> None:
    """The oldest whole one goes: it was taken in. Raises ``Error`` (``frames-too-many``) where all are open."""
    if len(kept) < TRANSFERS_MAX:
        return
    gone = next((one.transfer for one in reversed(kept.values()) if one.is_whole), None)
    if gone is None:
        raise Error(
            "frames-too-many",
            expected=_("at most {transfers_max} transfers at a time", transfers_max=TRANSFERS_MAX),
            seen=_("one more"),
        )
    sql.execute("DELETE FROM frames WHERE transfer = ?", (gone,))
    del kept[gone]


def _transfers(sql: sqlite3.Connection) -> list[KeptTransfer]:
    found: dict[str, tuple[Gathering, int]] = {}
    for row in sql.execute("SELECT * FROM frames"):
        gathering, read_at = found.get(row["transfer"], (Gathering(row["transfer"], row["count"], {}), 0))
        gathering.pieces[row["number"]] = row["piece"]
        found[row["transfer"]] = gathering, max(read_at, row["read_at"])
    rows = [KeptTransfer(gathering=gathering, read_at=read_at) for gathering, read_at in found.values()]
    return sorted(rows, key=lambda one: (-one.read_at, one.gathering.transfer))
