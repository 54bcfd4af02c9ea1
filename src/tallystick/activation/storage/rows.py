"""Rows to domain values and back, by hand. Nothing here asks the database anything."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.activation.core.ports import (
    Answer,
    FieldServer,
    Holding,
    Incident,
    IncidentKind,
    IssuedGrant,
    LostDeclaration,
    MessageOutcome,
    ServiceClock,
    Status,
    TakenMessage,
    UsedProof,
)
from tallystick.activation.storage.seals import seal_of, sealed
from tallystick.domain.catalog import Product
from tallystick.domain.entitlement import Line
from tallystick.domain.grant import Outstanding
from tallystick.domain.ids import LineId
from tallystick.domain.ledger import Account, Balances, Entry
from tallystick.domain.text import folded

Row = Any  # a named tuple of the columns; SQLAlchemy knows their types only at run time
Values = dict[str, Any]

_STATUSES = {status.value: status for status in Status}
_OUTSTANDING = msgspec.json.Decoder(tuple[Outstanding, ...])


def product_of(row: Row, *, engineering: bool | None = None) -> Product:
    """A product from its columns. ``engineering``: where the row has a column of that name from another table."""
    return Product(
        sku=row.sku,
        name=row.name,
        kinds=frozenset(msgspec.json.decode(row.kinds)),
        features=msgspec.json.decode(row.features),
        returnable=bool(row.returnable),
        one_carry=bool(row.one_carry),
        engineering=bool(row.engineering if engineering is None else engineering),
    )


def product_values(product: Product) -> Values:
    """The columns of a product."""
    return {
        "sku": product.sku,
        "name": product.name,
        "kinds": _json(sorted(product.kinds)),
        "features": _json(dict(product.features)),
        "returnable": product.returnable,
        "one_carry": product.one_carry,
        "engineering": product.engineering,
    }


def line_of(row: Row, product: Product) -> Line:
    """A line from its columns and its product."""
    return Line(
        line_id=row.line_id,
        entitlement_id=row.entitlement_id,
        account=row.account,
        product=product,
        secret=row.secret,
        expires_at=row.expires_at,
        engineering=bool(row.engineering),
        suspended=bool(row.suspended),
        frozen=bool(row.frozen),
        balances=Balances(
            bought=row.bought,
            available=row.available,
            held=row.held,
            returning=row.returning,
            quarantined=row.quarantined,
            retired=row.retired,
            entries=row.entries,
            chain=row.chain,
        ),
    )


def line_changes(line: Line) -> Values:
    """The columns of a line that may change, and its key."""
    balances = line.balances
    changes = {
        "line_id": line.line_id,
        "expires_at": line.expires_at,
        "engineering": line.engineering,
        "suspended": line.suspended,
        "frozen": line.frozen,
        "bought": balances.bought,
        "available": balances.available,
        "held": balances.held,
        "returning": balances.returning,
        "quarantined": balances.quarantined,
        "retired": balances.retired,
        "entries": balances.entries,
        "chain": balances.chain,
    }
    return changes | {"seal": seal_of("lines", changes | _fixed(line))}


def _fixed(line: Line) -> Values:
    """The columns of a line that do not change on the way to a reply."""
    return {
        "entitlement_id": line.entitlement_id,
        "account": line.account,
        "sku": line.product.sku,
        "secret": line.secret,
    }


def line_values(line: Line, position: int) -> Values:
    """The columns of a new line."""
    return {**line_changes(line), **_fixed(line), "position": position}


def field_server_of(row: Row) -> FieldServer:
    """A field server from its columns."""
    return FieldServer(
        device_id=row.device_id,
        public_key=row.public_key,
        account=row.account,
        kind=row.kind,
        host_id=row.host_id,
        name=row.name,
        software=row.software,
        status=_STATUSES[row.status],
        epoch=row.epoch,
        spoken_epoch=row.spoken_epoch,
        sequence=row.sequence,
        number=row.number,
        proven=row.proven,
        outstanding=_OUTSTANDING.decode(row.outstanding),
        recovering=row.recovering,
        rolled_back_at=row.rolled_back_at,
        speaks=row.speaks,
        lost_at=row.lost_at,
        lost_until=row.lost_until,
        waits_until=row.waits_until,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
    )


def field_server_values(server: FieldServer) -> Values:
    """The columns of a field server."""
    return {
        "device_id": server.device_id,
        "public_key": server.public_key,
        "account": server.account,
        "kind": server.kind,
        "host_id": server.host_id,
        "name": server.name,
        "software": server.software,
        "status": str(server.status),
        "epoch": server.epoch,
        "spoken_epoch": server.spoken_epoch,
        "sequence": server.sequence,
        "number": server.number,
        "proven": server.proven,
        "outstanding": _json(server.outstanding),
        "recovering": server.recovering,
        "rolled_back_at": server.rolled_back_at,
        "speaks": server.speaks,
        "lost_at": server.lost_at,
        "lost_until": server.lost_until,
        "waits_until": server.waits_until,
        "first_seen_at": server.first_seen_at,
        "last_seen_at": server.last_seen_at,
        "folded": f"{folded(server.name)}\n{folded(server.host_id)}",
        "host_folded": folded(server.host_id),
    }


def holding_of(row: Row) -> Holding:
    """A holding from its columns."""
    return Holding(
        device_id=row.device_id,
        line_id=row.line_id,
        held=row.held,
        returning=row.returning,
        quarantined=row.quarantined,
        since_at=row.since_at,
    )


def holding_values(holding: Holding, account: str | None) -> Values:
    """The columns of a holding."""
    return {
        "line_id": holding.line_id,
        "device_id": holding.device_id,
        "account": account,
        "held": holding.held,
        "returning": holding.returning,
        "quarantined": holding.quarantined,
        "since_at": holding.since_at,
    }


def entry_of(row: Row) -> Entry:
    """A ledger entry from its columns."""
    return Entry(
        line_id=row.line_id,
        number=row.number,
        source=Account(row.source),
        target=Account(row.target),
        quantity=row.quantity,
        device_id=row.device_id,
        cause=row.cause,
        booked_at=row.booked_at,
        chain=row.chain,
    )


def entry_values(entry: Entry, account: str | None) -> Values:
    """The columns of a ledger entry."""
    return {
        "line_id": entry.line_id,
        "number": entry.number,
        "account": account,
        "source": str(entry.source),
        "target": str(entry.target),
        "quantity": entry.quantity,
        "device_id": entry.device_id,
        "cause": entry.cause,
        "booked_at": entry.booked_at,
        "chain": entry.chain,
    }


def proof_values(proof: UsedProof) -> Values:
    """The columns of a proof that was used."""
    return {"jti": proof.jti, "device_id": proof.device_id, "digest": proof.digest}


def answer_of(row: Row) -> Answer:
    """A stored answer, verbatim."""
    return Answer(
        digest=row.digest,
        outcome=MessageOutcome(row.outcome),
        reply=tuple(row.reply.split("\n")) if row.reply else (),
        code=row.code,
        detail=row.detail,
    )


def message_of(row: Row) -> TakenMessage:
    """A processed message from its columns."""
    return TakenMessage(
        digest=row.digest,
        device_id=row.device_id,
        epoch=row.epoch,
        sequence=row.sequence,
        purpose=row.purpose,
        taken_at=row.taken_at,
        answer=answer_of(row),
    )


def message_values(message: TakenMessage, account: str | None) -> Values:
    """The columns of a processed message."""
    values = {
        "digest": message.digest,
        "device_id": message.device_id,
        "account": account,
        "epoch": message.epoch,
        "sequence": message.sequence,
        "purpose": message.purpose,
        "taken_at": message.taken_at,
        "outcome": str(message.answer.outcome),
        "code": message.answer.code,
        "detail": message.answer.detail,
        "reply": "\n".join(message.answer.reply),
    }
    return sealed("messages", values)


def grant_of(row: Row) -> IssuedGrant:
    """An issued grant from its columns."""
    return IssuedGrant(
        device_id=row.device_id,
        number=row.number,
        epoch=row.epoch,
        digest=row.digest,
        issued_at=row.issued_at,
        envelope=row.envelope,
    )


def grant_values(grant: IssuedGrant, account: str | None) -> Values:
    """The columns of an issued grant."""
    return {
        "device_id": grant.device_id,
        "number": grant.number,
        "account": account,
        "epoch": grant.epoch,
        "digest": grant.digest,
        "issued_at": grant.issued_at,
        "envelope": grant.envelope,
    }


def incident_of(row: Row) -> Incident:
    """An incident from its columns."""
    return Incident(
        kind=IncidentKind(row.kind), device_id=row.device_id, at=row.at, detail=row.detail, digest=row.digest
    )


def incident_values(incident: Incident, account: str | None) -> Values:
    """The columns of an incident."""
    values = {
        "account": account,
        "kind": incident.kind.value,
        "device_id": incident.device_id,
        "at": incident.at,
        "detail": incident.detail,
        "digest": incident.digest,
    }
    return sealed("incidents", values)


def clock_of(row: Row) -> ServiceClock:
    """The time in service from its columns."""
    return ServiceClock(at=row.at, seconds=row.seconds, doubted_at=row.doubted_at)


def declaration_of(row: Row) -> LostDeclaration:
    """A declaration from its columns."""
    return LostDeclaration(
        device_id=row.device_id,
        account=row.account,
        at=row.at,
        reason=row.reason,
        by=row.declared_by,
        override_by=row.override_by,
        held=_held_of(row.line_ids),
        undone_at=row.undone_at,
    )


def _held_of(text: str) -> dict[LineId, int]:
    """Quantities by line. Before they were kept, it was a list of lines."""
    found = msgspec.json.decode(text)
    return found if isinstance(found, dict) else dict.fromkeys(found, 0)


def declaration_values(declaration: LostDeclaration) -> Values:
    """The columns of a declaration."""
    values = {
        "device_id": declaration.device_id,
        "at": declaration.at,
        "account": declaration.account,
        "reason": declaration.reason,
        "declared_by": declaration.by,
        "override_by": declaration.override_by,
        "line_ids": _json(declaration.held),
        "undone_at": declaration.undone_at,
    }
    return sealed("declarations", values)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
