"""Whose database this is: one row that names the issuer and its root, and says whether the database was moved.

Guarantees: two who name a database at the same time are one; the second one finds what the first one wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select, update

from tallystick.activation.storage.dialects import Dialect
from tallystick.activation.storage.tables import DEPLOYMENT, METADATA

_ONE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """``root``: the fingerprint of the issuer's root. ``moved_at``: since when a copy serves in place of this database."""

    issuer: str
    root: str
    moved_at: int | None = None


class DeploymentTable:
    """One transaction's view of the row."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    def load(self) -> Deployment | None:
        """Whose it is. None: of nobody yet, or of a version that did not write it down."""
        row = self._connection.execute(select(DEPLOYMENT)).first()
        return None if row is None else Deployment(issuer=row.issuer, root=row.root, moved_at=row.moved_at)

    def claim(self, *, issuer: str, root: str) -> bool:
        """Write down whose it is. False where somebody has, and it stays as it was."""
        statement = self._dialect.insert(DEPLOYMENT).values(number=_ONE, issuer=issuer, root=root)
        made = statement.on_conflict_do_nothing().returning(DEPLOYMENT.c.number)
        return self._connection.execute(made).first() is not None

    def set_root(self, root: str, *, before: str) -> None:
        """The root was handed over."""
        self._connection.execute(update(DEPLOYMENT).where(DEPLOYMENT.c.root == before).values(root=root))

    def set_moved(self, at: int | None) -> None:
        """A copy serves from now on; or, None, this one goes on."""
        self._connection.execute(update(DEPLOYMENT).values(moved_at=at))

    def forget(self, root: str) -> None:
        """It is not this root's any more: for an ``init`` that was interrupted."""
        self._connection.execute(delete(DEPLOYMENT).where(DEPLOYMENT.c.root == root))

    def used_table(self) -> str | None:
        """The first table that has a row; None where nobody uses the database."""
        for table in METADATA.sorted_tables:
            if self._connection.execute(select(table).limit(1)).first() is not None:
                return str(table.name)
        return None
