"""Entitlements have a reference beside their ID, which is a secret, and the ID can be replaced.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from tallystick.domain.ids import EntitlementId, entitlement_reference

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Two columns; the ID leaves the answers that are kept for a day. The trail is chained: it is shown with references."""
    op.add_column("entitlements", sa.Column("reference", _ID, nullable=True))
    op.add_column("entitlements", sa.Column("current_id", _ID, nullable=True))
    connection = op.get_bind()
    for (entitlement_id,) in connection.execute(sa.text("SELECT entitlement_id FROM entitlements")).all():
        values = {"id": entitlement_id, "reference": entitlement_reference(EntitlementId(entitlement_id))}
        connection.execute(sa.text("UPDATE entitlements SET reference = :reference WHERE entitlement_id = :id"), values)
    op.create_index("ix_entitlements_reference", "entitlements", ["reference"], unique=True)
    op.create_index("ix_entitlements_current_id", "entitlements", ["current_id"], unique=True)
    for subject, key, answer in connection.execute(sa.text("SELECT subject, key, answer FROM repeats")).all():
        document = json.loads(answer)
        if "entitlement_id" in document:
            values = {"subject": subject, "key": key, "answer": json.dumps(_without_secrets(document))}
            connection.execute(
                sa.text("UPDATE repeats SET answer = :answer WHERE subject = :subject AND key = :key"), values
            )


def _without_secrets(document: dict[str, object]) -> dict[str, object]:
    reference = entitlement_reference(EntitlementId(str(document["entitlement_id"])))
    lines = document.get("lines", [])
    assert isinstance(lines, list)  # noqa: S101 - as the API wrote it
    kept = [
        {name: value for name, value in line.items() if name != "entitlement_id"}
        | {"entitlement": reference, "activation_id": None}
        for line in lines
    ]
    return document | {"entitlement": reference, "entitlement_id": None, "lines": kept}
