"""Field servers: search, history, returns and changes from here, holds, what is declared lost."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.activation.core import interventions
from tallystick.activation.core.permissions import VENDOR_ROLES, Caller, Permission
from tallystick.activation.core.ports import FieldServer, IncidentKind, Resolution, Status
from tallystick.activation.services import documents, incidents
from tallystick.activation.services.base import IdempotentRequest, Office, not_found, record
from tallystick.activation.services.schemas import (
    FieldServerDocument,
    HoldingDocument,
    ReturnDocument,
    StartedDocument,
)
from tallystick.activation.storage import SqlTransaction
from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.rules import Want
from tallystick.protocol.tallyfile import format_file
from tallystick.sentences import _


def find_field_servers(
    office: Office,
    caller: Caller,
    *,
    text: str = "",
    status: Status | None = None,
    kind: str | None = None,
    account: str | None = None,
    after: str = "",
    limit: int = 100,
) -> list[FieldServerDocument]:
    """Field servers by device id, and what they hold."""

    def work(transaction: SqlTransaction) -> list[FieldServerDocument]:
        found = transaction.within(caller.scope).field_servers(
            text=text, status=status, kind=kind, account=account, after=after, limit=limit
        )
        return _documents(transaction, caller, found)

    return office.read(caller, Permission.READ, work)


def load_field_server(office: Office, caller: Caller, device_id: str) -> FieldServerDocument:
    """One field server, and what it holds."""
    return office.read(
        caller,
        Permission.READ,
        lambda transaction: _document(transaction, caller, _server(transaction, caller, device_id)),
    )


# Returns and changes from here


def find_open_returns(
    office: Office, caller: Caller, *, after: tuple[int, str, str] | None = None, limit: int = 100
) -> list[ReturnDocument]:
    """Rights that are returning, oldest first: where each return stands, and the next step."""

    def work(transaction: SqlTransaction) -> list[ReturnDocument]:
        tables = transaction.within(caller.scope)
        holdings = tables.open_returns(after=after, limit=limit)
        servers = tables.field_servers_by_id({holding.device_id for holding in holdings})
        lines = tables.lines_by_id({holding.line_id for holding in holdings})
        started = tables.started_here(servers)
        now = office.clock()
        found = []
        for holding in holdings:
            server = servers.get(holding.device_id)
            stands, next_step = _standing(server, is_started=holding.device_id in started) if server else ("", "")
            found.append(
                ReturnDocument(
                    device_id=holding.device_id,
                    device_name=server.name if server else "",
                    account=server.account if server else None,
                    line=holding.line_id,
                    product=lines[holding.line_id].product.sku if holding.line_id in lines else "",
                    quantity=holding.returning,
                    since_at=holding.since_at,
                    age_seconds=max(0, now - holding.since_at),
                    stands=stands,
                    next_step=next_step,
                )
            )
        return found

    return office.read(caller, Permission.READ_RETURNS, work)


def count_open_returns(office: Office, caller: Caller) -> int:
    """How many rows ``find_open_returns`` has."""
    return office.read(
        caller, Permission.READ_RETURNS, lambda transaction: transaction.within(caller.scope).count_open_returns()
    )


def _standing(server: FieldServer, *, is_started: bool) -> tuple[str, str]:
    name = server.name or server.device_id[:12]
    if server.status is Status.HOLD:
        return "on hold", "Look at its incidents, then release the hold."
    if is_started:
        return (
            "started here, not yet proven",
            f"Carry the file to {name}, then its outbox here; starting it again gives the same file.",
        )
    return "answered, not yet proven", f"Deliver the response to {name}, then bring what is in its outbox here."


def start_return(office: Office, caller: Caller, device_id: str, *, once: IdempotentRequest | None) -> StartedDocument:
    """Return everything that a field server holds. Started again before it was proven, it is the same file."""
    return start_change(office, caller, device_id, None, once=once)


def start_change(
    office: Office,
    caller: Caller,
    device_id: str,
    wants: Sequence[tuple[str, int]] | None,
    *,
    once: IdempotentRequest | None,
) -> StartedDocument:
    """Set end states on a field server from here (None: everything to nothing).

    A customer may only lower, and only what can be returned.
    """

    def work(transaction: SqlTransaction, now: int) -> StartedDocument:
        (server,) = _locked(transaction, caller, device_id)
        tables = transaction.within(caller.scope)
        chosen = None if wants is None else [Want(line_id=LineId(line), quantity=quantity) for line, quantity in wants]
        for want in chosen or ():
            if tables.line(want.line_id) is None:
                raise not_found(_("a line that exists here"), want.line_id)
            if want.quantity > server.intended.get(want.line_id, 0):
                caller.check(Permission.SELL)
        grant = interventions.start_change(
            transaction,
            office.signer,
            server.device_id,
            chosen,
            by=caller.name,
            now=now,
            takes_back=caller.role in VENDOR_ROLES,
        )
        action = "return-start" if wants is None else "change-start"
        record(transaction, caller, action, device_id, account=server.account, now=now, detail=server.name)
        return _started(office, server, grant, what="return" if wants is None else "change")

    return office.create(caller, Permission.START_RETURN, work, kind=StartedDocument, once=once)


def _started(office: Office, server: FieldServer, grant: str, *, what: str) -> StartedDocument:
    name = server.name or server.device_id[:12]
    comment = (
        f"Tallystick: a {what} for field server {name} ({server.device_id}), started at the activation server\n"
        f"Deliver this file to {name}, then carry its outbox back: its proof closes the {what}."
    )
    file = b"".join(format_file([office.signer.keyset.compact, grant], comment=comment))
    return StartedDocument(
        device_id=server.device_id,
        name=server.name,
        file=file.decode(),
        next_step=_(
            "Deliver the file to {name}, then bring what is in its outbox here: its proof closes the {what}.",
            name=name,
            what=what,
        ),
    )


# Lost, on hold, retired, replaced


def declare_lost(
    office: Office, caller: Caller, device_id: str, *, reason: str, override: bool = False
) -> FieldServerDocument:
    """A dead field server: its rights wait in quarantine. ``override``: beyond the yearly limit."""
    if override:
        caller.check(Permission.OVERRIDE_LOST)

    def work(transaction: SqlTransaction, now: int) -> FieldServerDocument:
        (server,) = _locked(transaction, caller, device_id)
        after = interventions.declare_lost(
            transaction,
            office.signer,
            server.device_id,
            reason=reason,
            by=caller.name,
            policy=office.policy,
            now=now,
            override_by=caller.name if override else None,
        )
        record(transaction, caller, "declare-lost", device_id, account=server.account, now=now, detail=reason)
        return _document(transaction, caller, after)

    return office.change(caller, Permission.DECLARE_LOST, work)


def hold(office: Office, caller: Caller, device_id: str, *, reason: str) -> FieldServerDocument:
    """Nothing that it asks for is granted until the hold is released."""

    def work(transaction: SqlTransaction, now: int) -> FieldServerDocument:
        (server,) = _locked(transaction, caller, device_id)
        after = interventions.hold(transaction, office.signer, server.device_id, by=caller.name, now=now)
        record(transaction, caller, "hold", device_id, account=after.account, now=now, detail=reason)
        return _document(transaction, caller, after)

    return office.change(caller, Permission.HOLD, work)


def release(office: Office, caller: Caller, device_id: str) -> FieldServerDocument:
    """End a hold."""

    def work(transaction: SqlTransaction, now: int) -> FieldServerDocument:
        (server,) = _locked(transaction, caller, device_id)
        after = interventions.release_hold(transaction, office.signer, server.device_id, by=caller.name, now=now)
        incidents.resolve_all(
            transaction, [IncidentKind.FORK], server.device_id, by=caller.name, how=Resolution.RELEASE, now=now
        )
        record(transaction, caller, "release", device_id, account=server.account, now=now)
        return _document(transaction, caller, after)

    return office.change(caller, Permission.HOLD, work)


def retire(office: Office, caller: Caller, device_id: str) -> FieldServerDocument:
    """Take a field server that holds nothing out of service; its host id is free again. If it speaks, it is back."""

    def work(transaction: SqlTransaction, now: int) -> FieldServerDocument:
        (server,) = _locked(transaction, caller, device_id)
        after = interventions.retire(transaction, office.signer, server.device_id, by=caller.name, now=now)
        record(transaction, caller, "retire", device_id, account=server.account, now=now)
        return _document(transaction, caller, after)

    return office.change(caller, Permission.HOLD, work)


def replace_field_server(
    office: Office, caller: Caller, device_id: str, *, by_device: str, reason: str, once: IdempotentRequest | None
) -> StartedDocument:
    """Declare a dead field server lost and set another one to what it held, whole or not at all."""
    caller.check(Permission.DECLARE_LOST)

    def work(transaction: SqlTransaction, now: int) -> StartedDocument:
        old, new = _locked(transaction, caller, device_id, by_device)
        grant = interventions.replace_field_server(
            transaction,
            office.signer,
            old.device_id,
            with_device=new.device_id,
            reason=reason,
            by=caller.name,
            policy=office.policy,
            now=now,
        )
        if not old.is_declared_lost:
            record(transaction, caller, "declare-lost", device_id, account=old.account, now=now, detail=reason)
        record(transaction, caller, "replace", device_id, account=old.account, now=now, detail=f"by {by_device}")
        return _started(office, new, grant, what="change")

    return office.create(caller, Permission.SELL, work, kind=StartedDocument, once=once)


def _locked(transaction: SqlTransaction, caller: Caller, *device_ids: str) -> list[FieldServer]:
    """Field servers that a person decides about, locked until the commit.

    What he saw may be old; whatever is decided from here on is decided on what is true when it is done.
    """
    transaction.load_field_servers_for_update([DeviceId(device_id) for device_id in device_ids])
    return [_server(transaction, caller, device_id) for device_id in device_ids]


def _server(transaction: SqlTransaction, caller: Caller, device_id: str) -> FieldServer:
    server = transaction.within(caller.scope).field_server(device_id)
    if server is None:
        raise not_found(_("a field server that is known here"), device_id)
    return server


def _document(transaction: SqlTransaction, caller: Caller, server: FieldServer) -> FieldServerDocument:
    return _documents(transaction, caller, [server])[0]


def _documents(
    transaction: SqlTransaction, caller: Caller, servers: Sequence[FieldServer]
) -> list[FieldServerDocument]:
    """By two statements, however many there are."""
    tables = transaction.within(caller.scope)
    known = {server.device_id: server for server in servers}
    holdings = tables.holdings(known)
    lines = tables.lines_by_id({holding.line_id for holding in holdings})
    kept: dict[str, list[HoldingDocument]] = {device_id: [] for device_id in known}
    for document in documents.holding_documents(holdings, lines, known):
        kept[document.device_id].append(document)
    return [documents.field_server_document(server, kept[server.device_id]) for server in servers]
