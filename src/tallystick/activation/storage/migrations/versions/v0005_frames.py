"""QR codes that people read.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """A new table."""
    op.create_table(
        "frames",
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("transfer", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("piece", sa.LargeBinary(), nullable=False),
        sa.Column("read_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.person_id"], name="fk_frames_person_id_people"),
        sa.PrimaryKeyConstraint("person_id", "transfer", "number", name="pk_frames"),
    )
    op.create_index("ix_frames_read_at", "frames", ["read_at"])
