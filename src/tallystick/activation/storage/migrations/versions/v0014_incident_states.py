"""Incidents are open, acknowledged or resolved. What was noted before this is open.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table. An incident without a row in it is open."""
    op.create_table(
        "incident_states",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger()),
        sa.Column("acknowledged_by", sa.Text()),
        sa.Column("acknowledged_note", sa.Text(), nullable=False),
        sa.Column("resolved_at", sa.BigInteger()),
        sa.Column("resolved_by", sa.Text()),
        sa.Column("resolved_note", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text()),
        sa.Column("seal", sa.Text()),
        sa.ForeignKeyConstraint(["number"], ["incidents.id"], name="fk_incident_states_number_incidents"),
        sa.PrimaryKeyConstraint("number", name="pk_incident_states"),
    )
