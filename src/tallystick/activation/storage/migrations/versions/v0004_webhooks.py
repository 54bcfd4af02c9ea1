"""Whose a webhook is, and the secret that it had before.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """New columns; what there is already is the vendor's."""
    op.add_column("webhooks", sa.Column("owner", _ID))
    op.add_column("webhooks", sa.Column("secret_before", sa.LargeBinary()))
    op.add_column("webhooks", sa.Column("secret_before_until", sa.BigInteger()))
