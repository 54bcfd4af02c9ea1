"""The catalog: what is sold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tallystick.activation.core.catalog_file import changes_of
from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.services import documents
from tallystick.activation.services.base import Office, check_version, record
from tallystick.activation.services.schemas import CatalogDocument
from tallystick.activation.storage import SqlTransaction
from tallystick.domain.catalog import Catalog
from tallystick.sentences import _

_LINES_AT_ONCE: Final = 1000


def load_catalog(office: Office, caller: Caller) -> CatalogDocument:
    """Kinds and products."""
    return documents.catalog_document(
        office.read(caller, Permission.READ, lambda transaction: transaction.load_catalog())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What loading a catalog would change. ``shown`` names both, what is there and what is to be."""

    changes: list[dict[str, Any]]
    new: list[str]
    version: str
    shown: str


def foresee_catalog(office: Office, caller: Caller, catalog: Catalog) -> Foreseen:
    """What would change for what was sold already, and where; which products are new. Changes nothing."""
    then = documents.catalog_document(catalog)
    after = {product.sku: product.model_dump(exclude={"sku"}) for product in then.products}

    def work(transaction: SqlTransaction) -> Foreseen:
        now = documents.catalog_document(transaction.load_catalog())
        before = [product.model_dump() for product in now.products]

        def lines_of(sku: str) -> Iterator[dict[str, Any]]:
            last = ""
            while found := transaction.within(caller.scope).lines(product=sku, after=last, limit=_LINES_AT_ONCE):
                yield from (
                    {"line": line.line_id, "account": line.account, "held": line.balances.held} for line in found
                )
                last = found[-1].line_id

        return Foreseen(
            changes=changes_of(before, after, lines_of),
            new=sorted(after.keys() - {product["sku"] for product in before}),
            version=now.version,
            shown=f"{now.version}.{then.version}",
        )

    caller.check(Permission.CATALOG)
    return office.read(caller, Permission.READ, work)


def save_catalog(office: Office, caller: Caller, catalog: Catalog, *, version: str | None) -> CatalogDocument:
    """Replace the kinds, add or change products; none is removed."""

    def work(transaction: SqlTransaction, now: int) -> CatalogDocument:
        transaction.events.lock("catalog")  # who changes it next sees what was changed
        check_version(documents.catalog_document(transaction.load_catalog()).version, version, _("the catalog"))
        transaction.save_catalog(catalog)
        detail = f"{len(catalog.products)} products"
        record(transaction, caller, "catalog-load", "catalog", account=None, now=now, detail=detail)
        return documents.catalog_document(transaction.load_catalog())

    return office.change(caller, Permission.CATALOG, work)
