"""The catalog: what is sold."""

from __future__ import annotations

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.services import documents
from tallystick.activation.services.base import Office, check_version, record
from tallystick.activation.services.schemas import CatalogDocument
from tallystick.activation.storage import SqlTransaction
from tallystick.domain.catalog import Catalog
from tallystick.sentences import _


def load_catalog(office: Office, caller: Caller) -> CatalogDocument:
    """Kinds and products."""
    return documents.catalog_document(
        office.read(caller, Permission.READ, lambda transaction: transaction.load_catalog())
    )


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
