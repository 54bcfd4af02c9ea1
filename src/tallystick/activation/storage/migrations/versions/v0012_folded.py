"""What is compared and searched is kept folded beside what is shown: names of accounts, names and host ids of field servers.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallystick.domain.text import folded

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ROWS = 1000


def upgrade() -> None:
    """Two columns, filled by the folding itself. Accounts that look alike already stay: the index is not unique."""
    op.add_column("accounts", sa.Column("folded", _ID, nullable=True))
    op.add_column("field_servers", sa.Column("folded", _ID, nullable=True))
    connection = op.get_bind()
    _fill(connection, "accounts", "account", "account")
    _fill(connection, "field_servers", "device_id", "name, host_id")
    op.create_index("ix_accounts_folded", "accounts", ["folded"])


def _fill(connection: sa.Connection, table: str, key: str, texts: str) -> None:
    """By key, some rows at a time: there may be a hundred thousand."""
    page = sa.text(f"SELECT {key}, {texts} FROM {table} WHERE {key} > :after ORDER BY {key} LIMIT {_ROWS}")  # noqa: S608 - constants
    update = sa.text(f"UPDATE {table} SET folded = :folded WHERE {key} = :key")  # noqa: S608 - constants
    after = ""
    while found := connection.execute(page, {"after": after}).all():
        connection.execute(update, [{"key": row[0], "folded": "\n".join(map(folded, row[1:]))} for row in found])
        after = found[-1][0]
