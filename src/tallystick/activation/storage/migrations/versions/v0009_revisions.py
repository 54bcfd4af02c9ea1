"""Revision 2 of the wire: what a field server speaks, which proofs were used, and epochs that only we raise.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """A column, a table; epochs that were raised by one, and restores that jumped numbers only."""
    # Not by a new table: what refers to field servers would stand in the way on SQLite.
    op.add_column("field_servers", sa.Column("speaks", sa.BigInteger(), nullable=False, server_default="1"))
    op.create_table(
        "proofs",
        sa.Column("jti", _ID, nullable=False),
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("digest", _ID, nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["field_servers.device_id"], name="fk_proofs_device_id_field_servers"),
        sa.PrimaryKeyConstraint("jti", "device_id", name="pk_proofs"),
    )
    # What was raised by one may be what a field server has raised by itself: see docs/protocol, "Epochs". One that is
    # recovering was jumped in its numbers, by its clock in milliseconds; an epoch far beyond all others takes their place.
    op.execute(
        "UPDATE field_servers SET epoch = ((CASE WHEN epoch > spoken_epoch THEN epoch ELSE spoken_epoch END + 128) "
        "/ 1024 + 1) * 1024 WHERE epoch > spoken_epoch"
    )
    op.execute(
        "UPDATE field_servers SET epoch = number / 1000 * 16384, recovering = number / 1000 * 16384 "
        "WHERE recovering IS NOT NULL AND number / 1000 * 16384 > epoch"
    )
    op.execute("UPDATE field_servers SET recovering = epoch WHERE recovering IS NOT NULL")
    op.execute(
        "INSERT INTO marks (name, value) SELECT 'restored-at', 0 WHERE EXISTS (SELECT 1 FROM lines WHERE frozen) "
        "OR EXISTS (SELECT 1 FROM field_servers WHERE recovering IS NOT NULL)"
    )
    op.execute(
        "INSERT INTO marks (name, value) SELECT 'restore-is-open', 1 WHERE EXISTS (SELECT 1 FROM lines WHERE frozen)"
    )
