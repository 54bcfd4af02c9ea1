"""What was bought: the catalog, entitlements, lines."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.activation.core import entitlements
from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.services import schemas
from tallystick.activation.services.base import IdempotentRequest, Office, check_version, not_found, record
from tallystick.activation.services.schemas import CatalogDocument, EntitlementDocument, HoldingDocument, LineDocument
from tallystick.activation.storage import SqlTransaction
from tallystick.domain.catalog import Catalog
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import EntitlementId, LineId


def load_catalog(office: Office, caller: Caller) -> CatalogDocument:
    """Kinds and products."""
    return schemas.catalog_document(
        office.read(caller, Permission.READ, lambda transaction: transaction.load_catalog())
    )


def save_catalog(office: Office, caller: Caller, catalog: Catalog, *, version: str | None) -> CatalogDocument:
    """Replace the kinds, add or change products; none is removed."""

    def work(transaction: SqlTransaction, now: int) -> CatalogDocument:
        transaction.events.lock("catalog")  # who changes it next sees what was changed
        check_version(schemas.catalog_document(transaction.load_catalog()).version, version, "the catalog")
        transaction.save_catalog(catalog)
        detail = f"{len(catalog.products)} products"
        record(transaction, caller, "catalog-load", "catalog", account=None, now=now, detail=detail)
        return schemas.catalog_document(transaction.load_catalog())

    return office.change(caller, Permission.CATALOG, work)


def find_entitlements(
    office: Office, caller: Caller, *, account: str | None, before: tuple[int, str] | None, limit: int
) -> list[EntitlementDocument]:
    """Entitlements with their lines, newest first."""

    def work(transaction: SqlTransaction) -> list[EntitlementDocument]:
        tables = transaction.within(caller.scope)
        headers = tables.entitlements(account=account, before=before, limit=limit)
        return [
            EntitlementDocument(
                entitlement_id=header.entitlement_id,
                account=header.account,
                created_at=header.created_at,
                lines=[schemas.line_document(line) for line in tables.lines_of_entitlement(header.entitlement_id)],
            )
            for header in headers
        ]

    return office.read(caller, Permission.READ, work)


def load_entitlement(office: Office, caller: Caller, entitlement_id: str) -> EntitlementDocument:
    """One entitlement with its lines."""

    def work(transaction: SqlTransaction) -> EntitlementDocument:
        tables = transaction.within(caller.scope)
        header = tables.entitlement(entitlement_id)
        if header is None:
            raise not_found("an entitlement that exists here", entitlement_id)
        lines = [schemas.line_document(line) for line in tables.lines_of_entitlement(entitlement_id)]
        return EntitlementDocument(
            entitlement_id=header.entitlement_id, account=header.account, created_at=header.created_at, lines=lines
        )

    return office.read(caller, Permission.READ, work)


def certificate(office: Office, caller: Caller, entitlement_id: str) -> bytes:
    """The certificate of an entitlement, as a tally file."""

    def work(transaction: SqlTransaction) -> bytes:
        if transaction.within(caller.scope).entitlement(entitlement_id) is None:
            raise not_found("an entitlement that exists here", entitlement_id)
        entitlement = transaction.load_entitlement(EntitlementId(entitlement_id))
        if entitlement is None:
            raise not_found("an entitlement that exists here", entitlement_id)
        return b"".join(entitlements.certificate_file(entitlement, office.signer, now=office.clock()))

    return office.read(caller, Permission.READ, work)


def create_entitlement(
    office: Office,
    caller: Caller,
    *,
    account: str,
    products: Sequence[tuple[str, int]],
    expires_at: int | None,
    once: IdempotentRequest | None,
    is_new_account: bool = False,
) -> EntitlementDocument:
    """A new entitlement of an account that exists, or (``is_new_account``) that is made with it."""
    if is_new_account:
        caller.check(Permission.ACCOUNTS)

    def work(transaction: SqlTransaction, now: int) -> EntitlementDocument:
        if is_new_account and transaction.people.save_account(account, now=now):
            record(transaction, caller, "account-create", account, account=account, now=now)
        if transaction.within(caller.scope).account(account) is None:
            raise not_found("an account that exists here", account)
        made = entitlements.create_entitlement(
            transaction,
            office.signer,
            account=account,
            products=products,
            expires_at=expires_at,
            random_bytes=office.random_bytes,
            by=caller.name,
            now=now,
        )
        detail = ", ".join(f"{quantity} {sku}" for sku, quantity in products)[:400]
        record(transaction, caller, "entitlement-create", made.entitlement_id, account=account, now=now, detail=detail)
        lines = [schemas.line_document(line) for line in made.lines]
        return EntitlementDocument(entitlement_id=made.entitlement_id, account=account, created_at=now, lines=lines)

    return office.create(caller, Permission.SELL, work, kind=EntitlementDocument, once=once)


def find_lines(
    office: Office,
    caller: Caller,
    *,
    account: str | None = None,
    product: str | None = None,
    expires_before: int | None = None,
    is_used_up: bool = False,
    after: str = "",
    limit: int = 100,
) -> list[LineDocument]:
    """Lines by id."""

    def work(transaction: SqlTransaction) -> list[LineDocument]:
        found = transaction.within(caller.scope).lines(
            account=account,
            product=product,
            expires_before=expires_before,
            is_used_up=is_used_up,
            after=after,
            limit=limit,
        )
        return [schemas.line_document(line) for line in found]

    return office.read(caller, Permission.READ, work)


def load_line(office: Office, caller: Caller, line_id: str) -> LineDocument:
    """One line."""
    return schemas.line_document(
        office.read(caller, Permission.READ, lambda transaction: _line(transaction, caller, line_id))
    )


def find_holders(
    office: Office, caller: Caller, line_id: str, *, after: str = "", limit: int = 100
) -> list[HoldingDocument]:
    """Who holds rights of a line, by device id."""

    def work(transaction: SqlTransaction) -> list[HoldingDocument]:
        line = _line(transaction, caller, line_id)
        tables = transaction.within(caller.scope)
        holdings = tables.holdings(line_id=line_id, after=after, limit=limit)
        servers = tables.field_servers_by_id({holding.device_id for holding in holdings})
        return schemas.holding_documents(holdings, {line.line_id: line}, servers)

    return office.read(caller, Permission.READ, work)


def change_line(
    office: Office, caller: Caller, line_id: str, change: LineChange, *, version: str | None
) -> LineDocument:
    """Extend, raise, lower, suspend, or turn an engineering line into a bought one."""

    def work(transaction: SqlTransaction, now: int) -> LineDocument:
        _line(transaction, caller, line_id)
        locked = transaction.load_lines_for_update([LineId(line_id)])[LineId(line_id)]
        check_version(schemas.line_version(locked), version, "the line")
        after = entitlements.change_line(transaction, office.signer, locked.line_id, change, by=caller.name, now=now)
        detail = _what_changed(locked, after)
        record(transaction, caller, "line-change", line_id, account=after.account, now=now, detail=detail)
        return schemas.line_document(after)

    return office.change(caller, Permission.SELL, work)


def _what_changed(before: Line, after: Line) -> str:
    parts = []
    if entitlements.quantity_of(before) != entitlements.quantity_of(after):
        parts.append(f"quantity {entitlements.quantity_of(before)} to {entitlements.quantity_of(after)}")
    if before.expires_at != after.expires_at:
        parts.append(f"expires {before.expires_at or 'never'} to {after.expires_at or 'never'}")
    if before.suspended != after.suspended:
        parts.append("suspended" if after.suspended else "no longer suspended")
    if before.engineering and not after.engineering:
        parts.append("engineering to bought")
    return ", ".join(parts) or "nothing"


def _line(transaction: SqlTransaction, caller: Caller, line_id: str) -> Line:
    line = transaction.within(caller.scope).line(line_id)
    if line is None:
        raise not_found("a line that exists here", line_id)
    return line
