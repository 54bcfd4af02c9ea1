"""QR codes that people read, in the caller's transaction. Each person has transfers of their own."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from tallystick.activation.storage.dialects import Dialect
from tallystick.activation.storage.tables import FRAMES
from tallystick.protocol.frames import Frame, Gathering

KEPT_SECONDS: Final = 30 * 86_400


class FrameTable:
    """See ``office.codes`` for the rules."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    def lock(self, person_id: str) -> None:
        """Two browsers of one person take turns."""
        self._dialect.lock_names(self._connection, [f"frames:{person_id}"])

    def forget_old(self, *, now: int) -> None:
        """Transfers, of anybody, of which nothing was read for a month."""
        whose = (FRAMES.c.person_id, FRAMES.c.transfer)
        old = select(*whose).group_by(*whose).having(func.max(FRAMES.c.read_at) < now - KEPT_SECONDS)
        for row in self._connection.execute(old).all():
            self.forget(row.person_id, row.transfer)

    def load(self, person_id: str) -> list[tuple[Gathering, int]]:
        """A person's transfers and when the last code of each was read, the newest first."""
        found: dict[str, tuple[Gathering, int]] = {}
        for row in self._connection.execute(select(FRAMES).where(FRAMES.c.person_id == person_id)):
            values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name; `count` is also a method of a row
            gathering, read_at = found.get(row.transfer, (Gathering(row.transfer, values["count"], {}), 0))
            gathering.pieces[row.number] = row.piece
            found[row.transfer] = gathering, max(read_at, row.read_at)
        return sorted(found.values(), key=lambda one: (-one[1], one[0].transfer))

    def save(self, person_id: str, frame: Frame, *, now: int) -> None:
        """One that was not read before."""
        values = {
            "person_id": person_id,
            "transfer": frame.transfer,
            "number": frame.number,
            "count": frame.count,
            "piece": frame.piece,
            "read_at": now,
        }
        self._connection.execute(insert(FRAMES).values(values))

    def forget(self, person_id: str, transfer: str) -> None:
        """A whole transfer."""
        self._connection.execute(delete(FRAMES).where(FRAMES.c.person_id == person_id, FRAMES.c.transfer == transfer))
