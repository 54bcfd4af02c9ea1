"""Whose a token is and who invited somebody; an e-mail address may be in several accounts.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# A token says whose it is by an e-mail address, which a token that made it follows.
_OWNERS = """
UPDATE tokens SET person_id = (
  SELECT people.person_id FROM people
  WHERE tokens.created_by = people.email
     OR substr(tokens.created_by, 1, length(people.email) + 12) = people.email || ' with token '
)
"""


def upgrade() -> None:
    """Two columns. A token of somebody who is not active any more ends."""
    op.add_column("people", sa.Column("invited_by", _ID, nullable=True))
    op.create_index("ix_people_invited_by", "people", ["invited_by"])
    op.drop_index("ix_people_email", "people")
    op.create_index("ix_people_email", "people", ["email"])
    op.add_column("tokens", sa.Column("person_id", _ID, nullable=True))
    op.create_index("ix_tokens_person_id", "tokens", ["person_id"])
    op.execute(_OWNERS)
