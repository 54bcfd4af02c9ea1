"""Host ids are compared as people read them: each is kept folded in a column of its own, with an index.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallystick.domain.text import folded

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_PAGE = sa.text("SELECT device_id, host_id FROM field_servers WHERE device_id > :after ORDER BY device_id LIMIT 1000")
_UPDATE = sa.text("UPDATE field_servers SET host_folded = :folded WHERE device_id = :device_id")


def upgrade() -> None:
    """A column, filled by the folding itself. Host ids that look alike already stay: the index is not unique."""
    op.add_column("field_servers", sa.Column("host_folded", _ID, nullable=True))
    connection, after = op.get_bind(), ""
    while found := connection.execute(_PAGE, {"after": after}).all():
        connection.execute(_UPDATE, [{"device_id": row.device_id, "folded": folded(row.host_id)} for row in found])
        after = found[-1].device_id
    op.drop_index("ix_field_servers_host_id", "field_servers")
    op.create_index("ix_field_servers_host_folded", "field_servers", ["host_folded"])
