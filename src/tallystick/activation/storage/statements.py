"""The statements, built once. Lists of keys are expanded when they run, at most ``KEYS_MAX`` at a time."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BindParameter, Select, bindparam, func, insert, select

from tallystick.activation.storage.dialects import Dialect
from tallystick.activation.storage.tables import (
    ENTITLEMENTS,
    ENTRIES,
    FIELD_SERVERS,
    HOLDINGS,
    KINDS,
    LINES,
    PRODUCTS,
    PROOFS,
)

_KEYS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)

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
LINES_BY_ENTITLEMENT: Final = LINES_WITH_PRODUCTS.where(LINES.c.entitlement_id.in_(_KEYS)).order_by(
    LINES.c.entitlement_id, LINES.c.position
)

HOLDINGS_BY_LINE: Final = (
    select(HOLDINGS).where(HOLDINGS.c.line_id.in_(_KEYS)).order_by(HOLDINGS.c.line_id, HOLDINGS.c.device_id)
)

QUARANTINE_ENDS: Final = (
    select(HOLDINGS.c.line_id, func.min(FIELD_SERVERS.c.lost_until).label("until"))
    .join(FIELD_SERVERS, FIELD_SERVERS.c.device_id == HOLDINGS.c.device_id)
    .where(HOLDINGS.c.line_id.in_(_KEYS), HOLDINGS.c.quarantined > 0, FIELD_SERVERS.c.lost_until.is_not(None))
    .group_by(HOLDINGS.c.line_id)
)

PROOFS_BY_JTI: Final = select(PROOFS).where(PROOFS.c.jti.in_(_KEYS))

INSERT_ENTRY: Final = insert(ENTRIES)
INSERT_LINE: Final = insert(LINES)
INSERT_ENTITLEMENT: Final = insert(ENTITLEMENTS)
INSERT_KIND: Final = insert(KINDS)


def upsert_product(dialect: Dialect) -> Any:
    """A product, new or changed."""
    statement = dialect.insert(PRODUCTS)
    return statement.on_conflict_do_update(
        index_elements=[PRODUCTS.c.sku],
        set_={column.name: statement.excluded[column.name] for column in PRODUCTS.c if not column.primary_key},
    )
