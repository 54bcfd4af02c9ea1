"""The first schema.

Revision ID: 0001
Revises: none
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_RISING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Every table and index."""
    _catalog()
    _bought()
    _field_servers()
    _ledger()
    _traffic()
    _people()


def _catalog() -> None:
    op.create_table(
        "kinds",
        sa.Column("kind", _ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_kinds"),
    )
    op.create_table(
        "products",
        sa.Column("sku", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("features", sa.Text(), nullable=False),
        sa.Column("returnable", sa.Boolean(), nullable=False),
        sa.Column("one_carry", sa.Boolean(), nullable=False),
        sa.Column("engineering", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("sku", name="pk_products"),
    )


def _bought() -> None:
    op.create_table(
        "entitlements",
        sa.Column("entitlement_id", _ID, nullable=False),
        sa.Column("account", _ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entitlement_id", name="pk_entitlements"),
    )
    op.create_index("ix_entitlements_account", "entitlements", ["account", "created_at"])
    op.create_table(
        "lines",
        sa.Column("line_id", _ID, nullable=False),
        sa.Column("entitlement_id", _ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("account", _ID, nullable=False),
        sa.Column("sku", _ID, nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("engineering", sa.Boolean(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("bought", sa.BigInteger(), nullable=False),
        sa.Column("available", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("returning", sa.BigInteger(), nullable=False, quote=True),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.Column("retired", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.CheckConstraint(
            'available + held + "returning" + quarantined + retired = bought', name="ck_lines_conserved"
        ),
        sa.CheckConstraint(
            'held >= 0 AND "returning" >= 0 AND quarantined >= 0 AND retired >= 0', name="ck_lines_not_negative"
        ),
        sa.ForeignKeyConstraint(["entitlement_id"], ["entitlements.entitlement_id"], name="fk_lines_entitlement_id"),
        sa.ForeignKeyConstraint(["sku"], ["products.sku"], name="fk_lines_sku"),
        sa.PrimaryKeyConstraint("line_id", name="pk_lines"),
    )
    op.create_index("ix_lines_account", "lines", ["account"])
    op.create_index("ix_lines_entitlement_id", "lines", ["entitlement_id", "position"])


def _field_servers() -> None:
    op.create_table(
        "field_servers",
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("account", _ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host_id", _ID, nullable=False),
        sa.Column("name", _ID, nullable=False),
        sa.Column("software", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("spoken_epoch", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("proven", sa.BigInteger(), nullable=False),
        sa.Column("outstanding", sa.Text(), nullable=False),
        sa.Column("recovering", sa.BigInteger(), nullable=True),
        sa.Column("rolled_back_at", sa.BigInteger(), nullable=True),
        sa.Column("lost_at", sa.BigInteger(), nullable=True),
        sa.Column("lost_until", sa.BigInteger(), nullable=True),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name="pk_field_servers"),
    )
    op.create_index("ix_field_servers_account", "field_servers", ["account"])
    op.create_index("ix_field_servers_host_id", "field_servers", ["host_id"])
    op.create_index(
        "ix_field_servers_lost_until",
        "field_servers",
        ["lost_until"],
        sqlite_where=sa.text("status = 'lost'"),
        postgresql_where=sa.text("status = 'lost'"),
    )
    op.create_index("ix_field_servers_name", "field_servers", ["name"])


def _ledger() -> None:
    op.create_table(
        "holdings",
        sa.Column("line_id", _ID, nullable=False),
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("account", _ID, nullable=True),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("returning", sa.BigInteger(), nullable=False, quote=True),
        sa.Column("quarantined", sa.BigInteger(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["field_servers.device_id"], name="fk_holdings_device_id"),
        sa.ForeignKeyConstraint(["line_id"], ["lines.line_id"], name="fk_holdings_line_id"),
        sa.PrimaryKeyConstraint("line_id", "device_id", name="pk_holdings"),
    )
    op.create_index("ix_holdings_device_id", "holdings", ["device_id"])
    op.create_index(
        "ix_holdings_since_at",
        "holdings",
        ["since_at"],
        sqlite_where=sa.text('"returning" > 0'),
        postgresql_where=sa.text('"returning" > 0'),
    )
    op.create_table(
        "entries",
        sa.Column("line_id", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account", _ID, nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("device_id", _ID, nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("booked_at", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["lines.line_id"], name="fk_entries_line_id"),
        sa.PrimaryKeyConstraint("line_id", "number", name="pk_entries"),
    )


def _traffic() -> None:
    op.create_table(
        "messages",
        sa.Column("digest", _ID, nullable=False),
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("account", _ID, nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_messages"),
    )
    op.create_index("ix_messages_device_id_sequence", "messages", ["device_id", "sequence", "taken_at"])
    op.create_table(
        "grants",
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account", _ID, nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("digest", _ID, nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["field_servers.device_id"], name="fk_grants_device_id"),
        sa.PrimaryKeyConstraint("device_id", "number", name="pk_grants"),
    )


def _people() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", _RISING, nullable=False),
        sa.Column("account", _ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("digest", _ID, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
    )
    op.create_index("ix_incidents_device_id", "incidents", ["device_id"])
    op.create_table(
        "declarations",
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account", _ID, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("declared_by", sa.Text(), nullable=False),
        sa.Column("override_by", sa.Text(), nullable=True),
        sa.Column("line_ids", sa.Text(), nullable=False),
        sa.Column("undone_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["field_servers.device_id"], name="fk_declarations_device_id"),
        sa.PrimaryKeyConstraint("device_id", "at", name="pk_declarations"),
    )
    op.create_index("ix_declarations_account", "declarations", ["account", "at"])
