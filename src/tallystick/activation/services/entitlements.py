"""What was bought: the catalog, entitlements, lines."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.activation.core import entitlements
from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.core.ports import EventKind
from tallystick.activation.services import documents
from tallystick.activation.services.base import (
    IdempotentRequest,
    Office,
    OfficeError,
    check_version,
    not_found,
    record,
    record_security,
)
from tallystick.activation.services.people import check_look_alike
from tallystick.activation.services.schemas import (
    EntitlementDocument,
    HoldingDocument,
    LineDocument,
    RevealedEntitlement,
    RevealedLine,
)
from tallystick.activation.storage import SqlTransaction
from tallystick.activation.storage.scoped import EntitlementHeader, ScopedTables
from tallystick.domain.dates import moment_text
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import SECRET_BYTES, LineId, entitlement_reference, new_entitlement_id
from tallystick.sentences import _


def find_entitlements(
    office: Office, caller: Caller, *, account: str | None, before: tuple[int, str] | None, limit: int
) -> list[EntitlementDocument]:
    """Entitlements with their lines, newest first."""

    def work(transaction: SqlTransaction) -> list[EntitlementDocument]:
        tables = transaction.within(caller.scope)
        headers = tables.entitlements(account=account, before=before, limit=limit)
        return _documents(tables, headers)

    return office.read(caller, Permission.READ, work)


def load_entitlement(office: Office, caller: Caller, reference: str) -> EntitlementDocument:
    """One entitlement with its lines, by its reference or its ID."""

    def work(transaction: SqlTransaction) -> EntitlementDocument:
        return _documents(transaction.within(caller.scope), [_header(transaction, caller, reference)])[0]

    return office.read(caller, Permission.READ, work)


def _documents(tables: ScopedTables, headers: Sequence[EntitlementHeader]) -> list[EntitlementDocument]:
    lines = tables.lines_of_entitlements([header.entitlement_id for header in headers])
    return [
        EntitlementDocument(
            entitlement=header.reference,
            account=header.account,
            created_at=header.created_at,
            lines=[documents.line_document(line) for line in lines[header.entitlement_id]],
        )
        for header in headers
    ]


def _header(transaction: SqlTransaction, caller: Caller, reference: str) -> EntitlementHeader:
    header = transaction.within(caller.scope).entitlement(reference)
    if header is None:
        raise not_found(_("an entitlement that exists here"), reference)
    return header


# What opens an entitlement


def certificate(office: Office, caller: Caller, reference: str) -> tuple[bytes, str]:
    """The certificate of an entitlement, as a tally file, and its reference. It has the activation IDs."""

    def work(transaction: SqlTransaction, now: int) -> tuple[bytes, str]:
        header, entitlement = _opened(transaction, caller, reference)
        _record(office, transaction, caller, EventKind.SECRET_REVEALED, header, now=now, detail="certificate")
        return b"".join(entitlements.certificate_file(entitlement, office.signer, now=now)), header.reference

    return office.change(caller, Permission.REVEAL, work)


def reveal_entitlement(office: Office, caller: Caller, reference: str) -> RevealedEntitlement:
    """The entitlement ID and the activation IDs of its lines."""

    def work(transaction: SqlTransaction, now: int) -> RevealedEntitlement:
        header, entitlement = _opened(transaction, caller, reference)
        _record(office, transaction, caller, EventKind.SECRET_REVEALED, header, now=now, detail="all IDs")
        return documents.revealed_entitlement(entitlement, header.reference)

    return office.change(caller, Permission.REVEAL, work)


def rotate_entitlement(
    office: Office, caller: Caller, reference: str, *, once: IdempotentRequest | None
) -> RevealedEntitlement:
    """Another entitlement ID, and another activation ID for each line: the earlier ones open nothing any more."""

    def work(transaction: SqlTransaction, now: int) -> RevealedEntitlement:
        header, before = _opened(transaction, caller, reference)
        transaction.load_lines_for_update([line.line_id for line in before.lines])
        for line in before.lines:
            transaction.replace_line_secret(line.line_id, office.random_bytes(SECRET_BYTES))
        transaction.replace_entitlement_id(header.reference, new_entitlement_id(office.random_bytes(SECRET_BYTES)))
        _record(office, transaction, caller, EventKind.SECRET_REPLACED, header, now=now, detail="all IDs")
        return documents.revealed_entitlement(_opened(transaction, caller, header.reference)[1], header.reference)

    return office.create(caller, Permission.REVEAL, work, kind=RevealedEntitlement, once=once)


def reveal_line(office: Office, caller: Caller, line_id: str) -> RevealedLine:
    """A line's activation ID."""

    def work(transaction: SqlTransaction, now: int) -> RevealedLine:
        line = _line(transaction, caller, line_id)
        _record(office, transaction, caller, EventKind.SECRET_REVEALED, line, now=now, detail="activation ID")
        return documents.revealed_line(line)

    return office.change(caller, Permission.REVEAL, work)


def rotate_line(office: Office, caller: Caller, line_id: str, *, once: IdempotentRequest | None) -> RevealedLine:
    """Another activation ID. What field servers hold stays; whoever has the entitlement ID can look the new one up."""

    def work(transaction: SqlTransaction, now: int) -> RevealedLine:
        line = _line(transaction, caller, line_id)
        transaction.load_lines_for_update([line.line_id])
        transaction.replace_line_secret(line.line_id, office.random_bytes(SECRET_BYTES))
        _record(office, transaction, caller, EventKind.SECRET_REPLACED, line, now=now, detail="activation ID")
        return documents.revealed_line(_line(transaction, caller, line_id))

    return office.create(caller, Permission.REVEAL, work, kind=RevealedLine, once=once)


def _opened(transaction: SqlTransaction, caller: Caller, reference: str) -> tuple[EntitlementHeader, Entitlement]:
    header = _header(transaction, caller, reference)
    entitlement = transaction.load_entitlement(header.current_id)
    if entitlement is None:
        raise not_found(_("an entitlement that exists here"), reference)
    return header, entitlement


def _record(
    office: Office,
    transaction: SqlTransaction,
    caller: Caller,
    kind: EventKind,
    what: EntitlementHeader | Line,
    *,
    now: int,
    detail: str,
) -> None:
    target = what.line_id if isinstance(what, Line) else what.reference
    action = "secret-reveal" if kind is EventKind.SECRET_REVEALED else "secret-rotate"
    record_security(office, transaction, caller, kind, action, target, account=what.account, now=now, detail=detail)


def create_entitlement(
    office: Office,
    caller: Caller,
    *,
    account: str,
    products: Sequence[tuple[str, int]],
    expires_at: int | None,
    once: IdempotentRequest | None,
    is_new_account: bool = False,
) -> RevealedEntitlement:
    """A new entitlement of an account that exists, or (``is_new_account``) that is made with it."""
    if is_new_account:
        caller.check(Permission.ACCOUNTS)

    def work(transaction: SqlTransaction, now: int) -> RevealedEntitlement:
        _check_end(expires_at, now)
        if is_new_account:
            check_look_alike(transaction, account)
        if is_new_account and transaction.people.save_account(account, now=now):
            record(transaction, caller, "account-create", account, account=account, now=now)
        if transaction.within(caller.scope).account(account) is None:
            raise not_found(_("an account that exists here"), account)
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
        reference = entitlement_reference(made.entitlement_id)
        record(transaction, caller, "entitlement-create", reference, account=account, now=now, detail=detail)
        return documents.revealed_entitlement(made, reference)

    return office.create(caller, Permission.SELL, work, kind=RevealedEntitlement, once=once)


def _check_end(expires_at: int | None, now: int) -> None:
    """Raises ``OfficeError``: nobody sells what is over already, but by mistake."""
    if expires_at is not None and expires_at <= now:
        raise OfficeError(
            "date-past", expected=_("an end after {now}", now=moment_text(now)), seen=moment_text(expires_at)
        )


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
        return [documents.line_document(line) for line in found]

    return office.read(caller, Permission.READ, work)


def load_line(office: Office, caller: Caller, line_id: str) -> LineDocument:
    """One line."""
    return documents.line_document(
        office.read(caller, Permission.READ, lambda transaction: _line(transaction, caller, line_id))
    )


def find_holders(
    office: Office, caller: Caller, line_id: str, *, after: str = "", limit: int = 100
) -> list[HoldingDocument]:
    """Who holds rights of a line, by device id."""

    def work(transaction: SqlTransaction) -> list[HoldingDocument]:
        line = _line(transaction, caller, line_id)
        tables = transaction.within(caller.scope)
        holdings = tables.holders(line_id, after=after, limit=limit)
        servers = tables.field_servers_by_id({holding.device_id for holding in holdings})
        return documents.holding_documents(holdings, {line.line_id: line}, servers)

    return office.read(caller, Permission.READ, work)


def change_line(
    office: Office, caller: Caller, line_id: str, change: LineChange, *, version: str | None
) -> LineDocument:
    """Extend, raise, lower, suspend, or turn an engineering line into a bought one."""

    def work(transaction: SqlTransaction, now: int) -> LineDocument:
        _line(transaction, caller, line_id)
        locked = transaction.load_lines_for_update([LineId(line_id)])[LineId(line_id)]
        check_version(documents.line_version(locked), version, _("the line"))
        if change.has_expiry and change.expires_at != locked.expires_at:
            _check_end(change.expires_at, now)
        after = entitlements.change_line(transaction, office.signer, locked.line_id, change, by=caller.name, now=now)
        detail = _what_changed(locked, after)
        record(transaction, caller, "line-change", line_id, account=after.account, now=now, detail=detail)
        return documents.line_document(after)

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
        raise not_found(_("a line that exists here"), line_id)
    return line
