"""Waiting periods count time in service. One that is under way begins to count anew.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table and a column. How much of a waiting period was time in service before this is not known."""
    op.create_table(
        "service_clock",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.Column("doubted_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_service_clock"),
    )
    op.add_column("field_servers", sa.Column("waits_until", sa.BigInteger()))
    op.execute("UPDATE field_servers SET waits_until = lost_until - lost_at WHERE status = 'lost'")
    op.drop_index("ix_field_servers_lost_until", "field_servers")
    op.create_index(
        "ix_field_servers_waits_until",
        "field_servers",
        ["waits_until"],
        sqlite_where=sa.text("status = 'lost'"),
        postgresql_where=sa.text("status = 'lost'"),
    )
