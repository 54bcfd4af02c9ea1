"""Seals on rows, and a chained audit trail. What is there already is sealed and chained as it stands.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ROWS = 2000
_SEALED = {  # the columns that are sealed, beginning with the key
    "lines": (
        *("line_id", "entitlement_id", "account", "sku", "secret", "expires_at", "engineering", "suspended", "frozen"),
        *("bought", "available", "held", "returning", "quarantined", "retired", "entries", "chain"),
    ),
    "messages": (
        *("digest", "device_id", "account", "epoch", "sequence", "purpose", "taken_at"),
        *("outcome", "code", "detail", "reply"),
    ),
    "declarations": (*("device_id", "at", "account", "reason", "declared_by", "override_by", "line_ids", "undone_at"),),
    "incidents": ("account", "kind", "device_id", "at", "detail", "digest"),
    "events": ("position", "event_id", "account", "kind", "at", "data"),
}
_KEYS = {"lines": ("line_id",), "messages": ("digest",), "declarations": ("device_id", "at"), "incidents": ("id",)}
_TRAIL = ("number", "at", "actor", "role", "account", "action", "target", "detail")


def upgrade() -> None:
    """New columns and a table for the heads of chains; then what is there."""
    for name in _SEALED:
        op.add_column(name, sa.Column("seal", sa.Text()))
    op.add_column("trail", sa.Column("chain", sa.Text()))
    op.create_table(
        "heads",
        sa.Column("name", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_heads"),
    )
    connection = op.get_bind()
    for name, columns in _SEALED.items():
        _seal(connection, name, columns)
    _chain(connection)


def _seal(connection: sa.Connection, name: str, columns: tuple[str, ...]) -> None:
    keys = _KEYS.get(name, ("position",))
    types: dict[str, Any] = {
        "secret": sa.LargeBinary,
        "engineering": sa.Boolean,
        "suspended": sa.Boolean,
        "frozen": sa.Boolean,
    }
    names = dict.fromkeys((*keys, *columns, "seal"))
    table = sa.table(name, *(sa.column(sa.sql.quoted_name(column, quote=True), types.get(column)) for column in names))
    place: tuple[Any, ...] | None = None
    while True:
        page = sa.select(table).order_by(*(table.c[key] for key in keys)).limit(_ROWS)
        if place is not None:
            page = page.where(sa.tuple_(*(table.c[key] for key in keys)) > sa.tuple_(*map(sa.literal, place)))
        rows = connection.execute(page).mappings().all()
        if not rows:
            return
        place = tuple(rows[-1][key] for key in keys)
        change = sa.update(table).where(*(table.c[key] == sa.bindparam(f"key_{key}") for key in keys))
        connection.execute(
            change.values(seal=sa.bindparam("new_seal")),
            [
                {f"key_{key}": row[key] for key in keys}
                | {
                    "new_seal": hashlib.sha256(
                        msgspec.json.encode([name, *(row[column] for column in columns)])
                    ).hexdigest()
                }
                for row in rows
            ],
        )


def _chain(connection: sa.Connection) -> None:
    table = sa.table("trail", *map(sa.column, (*_TRAIL, "chain")))
    number, chain = 0, ""
    while rows := connection.execute(
        sa.select(table).where(table.c.number > number).order_by(table.c.number).limit(_ROWS)
    ).all():
        changes = []
        for row in rows:
            text = json.dumps([chain, *row[:-1]], ensure_ascii=False, separators=(",", ":"))
            number, chain = row.number, hashlib.sha256(text.encode()).hexdigest()
            changes.append({"key_number": number, "new_chain": chain})
        change = sa.update(table).where(table.c.number == sa.bindparam("key_number"))
        connection.execute(change.values(chain=sa.bindparam("new_chain")), changes)
    if number:
        heads = sa.table("heads", sa.column("name"), sa.column("number"), sa.column("chain"))
        connection.execute(sa.insert(heads).values(name="trail", number=number, chain=chain))
