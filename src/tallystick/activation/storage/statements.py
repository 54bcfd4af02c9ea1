"""The statements, built once. Lists of keys are expanded when they run, at most ``KEYS_MAX`` at a time."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, Select, TextClause, bindparam, case, delete, insert, select, text, update

from tallystick.activation.ports import Status
from tallystick.activation.storage.dialects import Dialect
from tallystick.activation.storage.tables import (
    DECLARATIONS,
    ENTITLEMENTS,
    ENTRIES,
    FIELD_SERVERS,
    GRANTS,
    HOLDINGS,
    INCIDENTS,
    KINDS,
    LINES,
    MESSAGES,
    OUTBOX,
    PRODUCTS,
)

_KEYS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)
_IN_SERVICE: Final = (Status.ACTIVE.value, Status.HOLD.value)

# On the way to a reply

FIELD_SERVERS_BY_ID: Final = (
    select(FIELD_SERVERS).where(FIELD_SERVERS.c.device_id.in_(_KEYS)).order_by(FIELD_SERVERS.c.device_id)
)
FIELD_SERVERS_BY_ID_LOCKED: Final = FIELD_SERVERS_BY_ID.with_for_update()

# `engineering` of a product marks what is sold as such; a line keeps its own marker.
LINES_WITH_PRODUCTS: Final[Select[Any]] = select(
    LINES,
    PRODUCTS.c.name,
    PRODUCTS.c.kinds,
    PRODUCTS.c.features,
    PRODUCTS.c.returnable,
    PRODUCTS.c.one_carry,
    PRODUCTS.c.engineering.label("product_engineering"),
).join_from(LINES, PRODUCTS)
LINES_BY_ID: Final = LINES_WITH_PRODUCTS.where(LINES.c.line_id.in_(_KEYS)).order_by(LINES.c.line_id)
LINES_BY_ID_LOCKED: Final = LINES_BY_ID.with_for_update(of=LINES)

LINES_BY_ENTITLEMENT: Final = LINES_WITH_PRODUCTS.where(LINES.c.entitlement_id.in_(_KEYS)).order_by(
    LINES.c.entitlement_id, LINES.c.position
)

ANSWERS_BY_DIGEST: Final = select(
    MESSAGES.c.digest, MESSAGES.c.outcome, MESSAGES.c.code, MESSAGES.c.detail, MESSAGES.c.reply
).where(MESSAGES.c.digest.in_(_KEYS))

OWNERS_BY_HOST_ID: Final = (
    select(FIELD_SERVERS.c.host_id, FIELD_SERVERS.c.device_id)
    .where(FIELD_SERVERS.c.host_id.in_(_KEYS), FIELD_SERVERS.c.status.in_(_IN_SERVICE))
    .order_by(FIELD_SERVERS.c.device_id)
)

HOLDINGS_BY_LINE: Final = (
    select(HOLDINGS).where(HOLDINGS.c.line_id.in_(_KEYS)).order_by(HOLDINGS.c.line_id, HOLDINGS.c.device_id)
)

UPDATE_FIELD_SERVER: Final = (
    update(FIELD_SERVERS)
    .where(FIELD_SERVERS.c.device_id == bindparam("key_device_id"))
    .values({column.name: bindparam(column.name) for column in FIELD_SERVERS.c if not column.primary_key})
)
_LINE_CHANGES: Final = (
    *("expires_at", "engineering", "suspended", "frozen"),
    *("bought", "available", "held", "returning", "quarantined", "retired", "entries", "chain"),
)
UPDATE_LINE: Final = (
    update(LINES)
    .where(LINES.c.line_id == bindparam("key_line_id"))
    .values({name: bindparam(name) for name in _LINE_CHANGES})
)
DELETE_HOLDING: Final = delete(HOLDINGS).where(
    HOLDINGS.c.line_id == bindparam("key_line_id"), HOLDINGS.c.device_id == bindparam("key_device_id")
)
INSERT_FIELD_SERVER: Final = insert(FIELD_SERVERS)
INSERT_ENTRY: Final = insert(ENTRIES)
INSERT_MESSAGE: Final = insert(MESSAGES)
INSERT_GRANT: Final = insert(GRANTS)
INSERT_INCIDENT: Final = insert(INCIDENTS)
INSERT_OUTBOX: Final = insert(OUTBOX)
INSERT_LINE: Final = insert(LINES)
INSERT_ENTITLEMENT: Final = insert(ENTITLEMENTS)
INSERT_KIND: Final = insert(KINDS)


@cache
def digests_by_sequence(pairs: str) -> TextClause:
    """Messages by field server and sequence. The order of the join is fixed: from what is wanted to the index."""
    return text(
        "SELECT found.device_id, found.sequence AS number, found.digest "  # noqa: S608 - `pairs` is a dialect's constant
        f"FROM ({pairs}) AS wanted CROSS JOIN messages AS found "
        "WHERE found.device_id = wanted.device_id AND found.sequence = wanted.number "
        "ORDER BY found.taken_at, found.digest"
    )


@cache
def digests_by_grant(pairs: str) -> TextClause:
    """Grants by field server and number."""
    return text(
        "SELECT found.device_id, found.number, found.digest "  # noqa: S608 - `pairs` is a dialect's constant
        f"FROM ({pairs}) AS wanted CROSS JOIN grants AS found "
        "WHERE found.device_id = wanted.device_id AND found.number = wanted.number"
    )


def upsert_holding(dialect: Dialect) -> Any:
    """A holding, new or changed. Since when some is returning is kept as long as some is."""
    statement = dialect.insert(HOLDINGS)
    new = statement.excluded
    goes_on = (HOLDINGS.c.returning > 0) & (new.returning > 0)
    return statement.on_conflict_do_update(
        index_elements=[HOLDINGS.c.line_id, HOLDINGS.c.device_id],
        set_={
            "account": new.account,
            "held": new.held,
            "returning": new.returning,
            "quarantined": new.quarantined,
            "since_at": case((goes_on, HOLDINGS.c.since_at), else_=new.since_at),
        },
    )


def upsert_declaration(dialect: Dialect) -> Any:
    """A declaration, new or undone."""
    statement = dialect.insert(DECLARATIONS)
    return statement.on_conflict_do_update(
        index_elements=[DECLARATIONS.c.device_id, DECLARATIONS.c.at],
        set_={column.name: statement.excluded[column.name] for column in DECLARATIONS.c if not column.primary_key},
    )


def upsert_product(dialect: Dialect) -> Any:
    """A product, new or changed."""
    statement = dialect.insert(PRODUCTS)
    return statement.on_conflict_do_update(
        index_elements=[PRODUCTS.c.sku],
        set_={column.name: statement.excluded[column.name] for column in PRODUCTS.c if not column.primary_key},
    )
