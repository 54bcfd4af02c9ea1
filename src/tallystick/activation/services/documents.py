"""What is stored as it is shown: values of the core and of storage become the documents of ``schemas``.

It grows with what is stored; what a document says, and what a request may say, is ``schemas``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.activation.core import entitlements
from tallystick.activation.core.people import ApiToken, Person
from tallystick.activation.core.ports import EventKind, FieldServer, Holding
from tallystick.activation.services.schemas import (
    CatalogDocument,
    DeliveryDocument,
    EntryDocument,
    FieldServerDocument,
    HoldingDocument,
    InvitedPerson,
    LineDocument,
    NewToken,
    NewWebhook,
    PersonDocument,
    ProductDocument,
    RevealedEntitlement,
    RevealedLine,
    TokenDocument,
    WebhookDocument,
)
from tallystick.activation.storage import PlacedEvent, Webhook, WebhookDelivery
from tallystick.activation.storage.events import DeliveryState
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import DeviceId, LineId, entitlement_reference
from tallystick.domain.ledger import Entry


def version_of(*values: object) -> str:
    """A short text that changes when one of ``values`` does."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:20]


def person_document(person: Person) -> PersonDocument:
    """A person."""
    return PersonDocument(**_person_values(person))


def invited_person(person: Person, invitation: str) -> InvitedPerson:
    """A person with the invitation."""
    return InvitedPerson(**_person_values(person), invitation=invitation, invited_until=person.invited_until)


def person_version(person: Person) -> str:
    """The version of what can be changed about a person."""
    return version_of(person.name, person.role, person.is_active, person.version)


def _person_values(person: Person) -> dict[str, Any]:
    return {
        "person_id": person.person_id,
        "email": person.email,
        "name": person.name,
        "role": person.role,
        "account": person.account,
        "is_active": person.is_active,
        "is_invited": person.password is None,
        "has_second_factor": person.totp_secret is not None,
        "created_at": person.created_at,
        "version": person_version(person),
    }


def token_document(token: ApiToken) -> TokenDocument:
    """A token without its key."""
    return TokenDocument(**_token_values(token))


def new_token(token: ApiToken, secret: str) -> NewToken:
    """A token with its key."""
    return NewToken(**_token_values(token), token=secret)


def _token_values(token: ApiToken) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "name": token.name,
        "role": token.role,
        "account": token.account,
        "is_read_only": token.is_read_only,
        "devices": list(token.devices),
        "created_by": token.created_by,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }


def catalog_document(catalog: Catalog) -> CatalogDocument:
    """The catalog."""
    products = [_product_document(catalog.products[sku]) for sku in sorted(catalog.products)]
    return CatalogDocument(
        kinds=list(catalog.kinds),
        products=products,
        version=version_of(catalog.kinds, [str(item) for item in products]),
    )


def _product_document(product: Product) -> ProductDocument:
    return ProductDocument.model_construct(
        sku=product.sku,
        name=product.name,
        kinds=sorted(product.kinds),
        features=dict(product.features),
        returnable=product.returnable,
        one_carry=product.one_carry,
        engineering=product.engineering,
    )


def webhook_document(webhook: Webhook) -> WebhookDocument:
    """A webhook without its secret."""
    return WebhookDocument(**_webhook_values(webhook))


def new_webhook(webhook: Webhook, secret: str) -> NewWebhook:
    """A webhook with its secret, as it is shown once."""
    return NewWebhook(**_webhook_values(webhook), secret=secret)


def webhook_version(webhook: Webhook) -> str:
    """The version of what can be changed about a webhook. What is delivered does not change it."""
    return version_of(webhook.url, webhook.kinds, webhook.stopped_at)


def _webhook_values(webhook: Webhook) -> dict[str, Any]:
    return {
        "webhook_id": webhook.webhook_id,
        "url": webhook.url,
        "account": webhook.account,
        "owner": webhook.owner,
        "kinds": list(webhook.kinds),
        "is_enabled": webhook.stopped_at is None,
        "stopped_at": webhook.stopped_at,
        "stopped_why": webhook.stopped_why,
        "position": webhook.position,
        "created_at": webhook.created_at,
        "created_by": webhook.created_by,
        "secret_before_until": webhook.secret_before_until,
        "version": webhook_version(webhook),
    }


def delivery_document(delivery: WebhookDelivery, event: PlacedEvent) -> DeliveryDocument:
    """A delivery."""
    return DeliveryDocument(
        webhook_id=delivery.webhook_id,
        position=delivery.position,
        event_id=event.event_id,
        kind=EventKind(event.kind),
        account=event.account,
        state=DeliveryState(delivery.state),
        attempts=delivery.attempts,
        first_at=delivery.first_at,
        next_at=delivery.next_at if delivery.state == DeliveryState.WAITING else None,
        last_at=delivery.last_at,
        status=delivery.status,
        detail=delivery.detail,
    )


def line_version(line: Line) -> str:
    """The version of what can be changed about a line. What field servers do with it does not change it."""
    return version_of(line.expires_at, line.engineering, line.suspended, line.balances.bought, line.balances.retired)


def line_document(line: Line) -> LineDocument:
    """A line, without its activation ID."""
    return LineDocument(**_line_values(line))


def revealed_line(line: Line) -> RevealedLine:
    """A line with its activation ID."""
    return RevealedLine(**_line_values(line), activation_id=str(line.activation_id))


def revealed_entitlement(entitlement: Entitlement, reference: str) -> RevealedEntitlement:
    """An entitlement with everything that opens it."""
    return RevealedEntitlement(
        entitlement=reference,
        account=entitlement.account,
        created_at=entitlement.created_at,
        entitlement_id=entitlement.entitlement_id,
        lines=[revealed_line(line) for line in entitlement.lines],
    )


def _line_values(line: Line) -> dict[str, Any]:
    balances = line.balances
    return {
        "line": line.line_id,
        "entitlement": entitlement_reference(line.entitlement_id),
        "account": line.account,
        "product": line.product.sku,
        "name": line.product.name,
        "kinds": sorted(line.product.kinds),
        "quantity": entitlements.quantity_of(line),
        "bought": balances.bought,
        "available": balances.available,
        "held": balances.held,
        "returning": balances.returning,
        "quarantined": balances.quarantined,
        "retired": balances.retired,
        "expires_at": line.expires_at,
        "engineering": line.engineering,
        "suspended": line.suspended,
        "frozen": line.frozen,
        "version": line_version(line),
    }


def holding_documents(
    holdings: Sequence[Holding], lines: Mapping[LineId, Line], servers: Mapping[DeviceId, FieldServer]
) -> list[HoldingDocument]:
    """Holdings with the names of both sides."""
    return [
        HoldingDocument(
            device_id=holding.device_id,
            device_name=servers[holding.device_id].name if holding.device_id in servers else "",
            line=holding.line_id,
            product=lines[holding.line_id].product.sku if holding.line_id in lines else "",
            held=holding.held,
            returning=holding.returning,
            quarantined=holding.quarantined,
            since_at=holding.since_at,
        )
        for holding in holdings
    ]


def field_server_document(server: FieldServer, licenses: Sequence[HoldingDocument]) -> FieldServerDocument:
    """A field server."""
    return FieldServerDocument(
        device_id=server.device_id,
        name=server.name,
        kind=server.kind,
        host_id=server.host_id,
        software=server.software,
        account=server.account,
        status=server.status,
        first_seen_at=server.first_seen_at,
        last_seen_at=server.last_seen_at or None,
        lost_at=server.lost_at,
        lost_until=server.lost_until,
        licenses=list(licenses),
    )


def entry_document(entry: Entry) -> EntryDocument:
    """A ledger entry."""
    return EntryDocument(
        line=entry.line_id,
        number=entry.number,
        source=entry.source,
        target=entry.target,
        quantity=entry.quantity,
        device_id=entry.device_id,
        cause=entry.cause,
        booked_at=entry.booked_at,
        chain=entry.chain,
    )
