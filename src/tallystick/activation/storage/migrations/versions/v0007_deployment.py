"""Whose database it is.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """A new table. Its row is written by who opens the database next, with the keys that it is used with."""
    op.create_table(
        "deployment",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("root", _ID, nullable=False),
        sa.Column("moved_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_deployment"),
    )
