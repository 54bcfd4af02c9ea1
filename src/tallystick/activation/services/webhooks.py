"""Webhooks: whose programs are notified of what happens, what was sent to them, and what came of it.

The vendor's webhooks get events of every account, or of one; a customer's people make webhooks for events of their own
account. Who made a webhook owns it: a customer neither sees nor changes the vendor's. Only the vendor's may go to what
the setting ``webhooks.allow_private`` names; a customer's go to the public Internet, over HTTPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.core.ports import EventKind
from tallystick.activation.outbound import safe_post, webhooks
from tallystick.activation.services import documents
from tallystick.activation.services.base import (
    IdempotentRequest,
    Office,
    check_version,
    not_found,
    record,
    record_security,
)
from tallystick.activation.services.schemas import DeliveryDocument, NewWebhook, WebhookDocument
from tallystick.activation.storage import SqlTransaction, Webhook
from tallystick.activation.storage.events import DeliveryState, kinds_text
from tallystick.sentences import _


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookChange:
    """What is changed about a webhook. None leaves it as it is."""

    url: str | None = None
    kinds: Sequence[EventKind] | None = None
    is_enabled: bool | None = None


def find_webhooks(office: Office, caller: Caller, *, after: str, limit: int) -> list[WebhookDocument]:
    """Webhooks by id."""
    found = office.read(
        caller,
        Permission.WEBHOOKS,
        lambda transaction: transaction.events.find_webhooks(owner=caller.scope.account, after=after, limit=limit),
    )
    return [documents.webhook_document(webhook) for webhook in found]


def load_webhook(office: Office, caller: Caller, webhook_id: str) -> WebhookDocument:
    """One webhook."""
    return documents.webhook_document(
        office.read(caller, Permission.WEBHOOKS, lambda transaction: _webhook(transaction, caller, webhook_id))
    )


def create_webhook(
    office: Office,
    caller: Caller,
    *,
    url: str,
    account: str | None,
    kinds: Sequence[EventKind],
    after: int | None,
    once: IdempotentRequest | None,
) -> NewWebhook:
    """A new webhook. It gets what happens from now on, or what is behind the position ``after``."""
    owner = caller.scope.account
    account = owner if account is None else account

    def work(transaction: SqlTransaction, now: int) -> NewWebhook:
        if account is not None and transaction.within(caller.scope).account(account) is None:
            raise not_found(_("an account that exists here"), account)
        made = webhooks.add(
            transaction,
            url=url,
            account=account,
            kinds=[kind.value for kind in kinds],
            after=after,
            allowed=_allowed(office, owner),
            by=caller.name,
            random_bytes=office.random_bytes,
            now=now,
            owner=owner,
        )
        _record(transaction, caller, "webhook-create", made, now=now, detail=f"to {_host(url)}")
        return documents.new_webhook(made, webhooks.secret_text(made))

    return office.create(caller, Permission.WEBHOOKS, work, kind=NewWebhook, once=once)


def change_webhook(
    office: Office, caller: Caller, webhook_id: str, change: WebhookChange, *, version: str | None
) -> WebhookDocument:
    """Another URL, other kinds, paused or going on. What waited through a pause is tried at once."""

    def work(transaction: SqlTransaction, now: int) -> WebhookDocument:
        webhook = _to_change(transaction, caller, webhook_id)
        check_version(documents.webhook_version(webhook), version, _("the webhook"))
        columns: dict[str, object] = {}
        said = []
        if change.url is not None and change.url != webhook.url:
            safe_post.check_url(change.url, _allowed(office, webhook.owner))
            columns["url"] = change.url
            said.append(f"to {_host(change.url)}")
        if change.kinds is not None and set(change.kinds) != set(webhook.kinds):
            columns["kinds"] = kinds_text(kind.value for kind in change.kinds)
            said.append("other kinds of events")
        if change.is_enabled is False and webhook.stopped_at is None:
            columns |= {"stopped_at": now, "stopped_why": f"paused by {caller.name}"}
            said.append("paused")
        if change.is_enabled and webhook.stopped_at is not None:
            columns |= {"stopped_at": None, "stopped_why": None}
            waiting = [DeliveryState.WAITING.value]
            transaction.events.retry(webhook_id=webhook_id, positions=None, now=now, states=waiting)
            said.append("going on")
        if columns:
            transaction.events.set_webhook(webhook_id, **columns)
            _record(transaction, caller, "webhook-change", webhook, now=now, detail=", ".join(said))
        return documents.webhook_document(_webhook(transaction, caller, webhook_id))

    return office.change(caller, Permission.WEBHOOKS, work)


def remove_webhook(office: Office, caller: Caller, webhook_id: str) -> WebhookDocument:
    """Send nothing to it any more, and forget its deliveries."""

    def work(transaction: SqlTransaction, now: int) -> WebhookDocument:
        webhook = _to_change(transaction, caller, webhook_id)
        transaction.events.remove_webhook(webhook_id)
        _record(transaction, caller, "webhook-remove", webhook, now=now, detail=f"to {_host(webhook.url)}")
        return documents.webhook_document(webhook)

    return office.change(caller, Permission.WEBHOOKS, work)


def rotate_secret(office: Office, caller: Caller, webhook_id: str, *, once: IdempotentRequest | None) -> NewWebhook:
    """Another secret. For a day the one before signs as well, so that the receiver can change in peace."""

    def work(transaction: SqlTransaction, now: int) -> NewWebhook:
        webhook = _to_change(transaction, caller, webhook_id)
        transaction.events.set_webhook(
            webhook_id,
            secret=office.random_bytes(webhooks.SECRET_BYTES),
            secret_before=webhook.secret,
            secret_before_until=now + webhooks.SECRET_OVERLAP_SECONDS,
        )
        kind, owner = EventKind.SECRET_REPLACED, webhook.owner
        record_security(office, transaction, caller, kind, "webhook-secret", webhook_id, account=owner, now=now)
        changed = _webhook(transaction, caller, webhook_id)
        return documents.new_webhook(changed, webhooks.secret_text(changed))

    return office.create(caller, Permission.WEBHOOKS, work, kind=NewWebhook, once=once)


def find_deliveries(
    office: Office, caller: Caller, webhook_id: str, *, state: DeliveryState | None, before: int | None, limit: int
) -> list[DeliveryDocument]:
    """What was sent to a webhook and what came of it, newest event first."""

    def work(transaction: SqlTransaction) -> list[DeliveryDocument]:
        _webhook(transaction, caller, webhook_id)
        found = transaction.events.deliveries(
            webhook_id=webhook_id, state=None if state is None else state.value, before=before, limit=limit
        )
        return [documents.delivery_document(*pair) for pair in found]

    return office.read(caller, Permission.WEBHOOKS, work)


def count_open(office: Office, caller: Caller, webhook_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many deliveries of webhooks wait, and how many were given up, by webhook and state."""

    def work(transaction: SqlTransaction) -> dict[str, dict[str, int]]:
        return transaction.events.count_open(webhook_ids, owner=caller.scope.account)

    return office.read(caller, Permission.WEBHOOKS, work)


def retry_delivery(office: Office, caller: Caller, webhook_id: str, position: int) -> DeliveryDocument:
    """Send one delivery at once, also one that was delivered; while the webhook is paused it waits."""

    def work(transaction: SqlTransaction, now: int) -> DeliveryDocument:
        webhook = _to_change(transaction, caller, webhook_id)
        if transaction.events.delivery(webhook_id, position) is None:
            raise not_found(_("a delivery of this webhook"), str(position))
        every = [state.value for state in DeliveryState]
        transaction.events.retry(webhook_id=webhook_id, positions=[position], now=now, states=every)
        _record(transaction, caller, "webhook-retry", webhook, now=now, detail=f"position {position}")
        found = transaction.events.delivery(webhook_id, position)
        assert found is not None  # noqa: S101 - it was there, in this transaction
        return documents.delivery_document(*found)

    return office.change(caller, Permission.WEBHOOKS, work)


def retry_all(office: Office, caller: Caller, webhook_id: str) -> int:
    """Try what waits or was given up at once. Returns how many; while the webhook is paused they wait."""

    def work(transaction: SqlTransaction, now: int) -> int:
        webhook = _to_change(transaction, caller, webhook_id)
        count = transaction.events.retry(webhook_id=webhook_id, positions=None, now=now)
        _record(transaction, caller, "webhook-retry", webhook, now=now, detail=f"{count} deliveries")
        return count

    return office.change(caller, Permission.WEBHOOKS, work)


def replay(office: Office, caller: Caller, webhook_id: str, *, after: int) -> WebhookDocument:
    """Send everything behind a position of the stream again, also what was delivered."""

    def work(transaction: SqlTransaction, now: int) -> WebhookDocument:
        webhook = _to_change(transaction, caller, webhook_id)
        transaction.events.set_webhook(webhook_id, position=webhooks.check_place(transaction, after))
        _record(transaction, caller, "webhook-replay", webhook, now=now, detail=f"behind position {after}")
        return documents.webhook_document(_webhook(transaction, caller, webhook_id))

    return office.change(caller, Permission.WEBHOOKS, work)


def _allowed(office: Office, owner: str | None) -> Sequence[str]:
    return office.webhooks_inside if owner is None else ()


def _to_change(transaction: SqlTransaction, caller: Caller, webhook_id: str) -> Webhook:
    transaction.events.lock("webhooks")  # who changes it next sees what was changed
    return _webhook(transaction, caller, webhook_id)


def _webhook(transaction: SqlTransaction, caller: Caller, webhook_id: str) -> Webhook:
    webhook = transaction.events.webhook(webhook_id)
    if webhook is None or not caller.scope.covers(webhook.owner):
        raise not_found(_("a webhook that is known here"), webhook_id)
    return webhook


def _record(
    transaction: SqlTransaction, caller: Caller, action: str, webhook: Webhook, *, now: int, detail: str = ""
) -> None:
    record(transaction, caller, action, webhook.webhook_id, account=webhook.owner, now=now, detail=detail)


def _host(url: str) -> str:
    """Where it goes. The rest of a URL may be a key, and is not for the audit trail."""
    return url.split("/")[2][:100]
