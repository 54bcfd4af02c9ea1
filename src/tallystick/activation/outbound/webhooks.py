"""Events on their way to webhooks: at least once, signed, with patience, replayable.

Events get their positions; each endpoint gets a delivery for each event that it wants; deliveries that are due are taken
for a while, sent, and kept with what came of them. A process that dies in between sends again: whoever receives tells
repeats by ``webhook-id``. Signatures are those of Standard Webhooks. No database transaction is open while anything is
sent.
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from tallystick.activation.core import events as event_kinds
from tallystick.activation.outbound import safe_post
from tallystick.activation.outbound.safe_post import Answered
from tallystick.activation.settings import WebhookSettings
from tallystick.activation.storage import PlacedEvent, SqlStore, SqlTransaction, Webhook, WebhookDelivery
from tallystick.activation.storage.events import DELIVERED, GIVEN_UP, WAITING
from tallystick.errors import Error

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how every secret begins
SECRET_BYTES: Final = 24
WEBHOOKS_MAX: Final = 100  # of the vendor
ACCOUNT_WEBHOOKS_MAX: Final = 10  # of one account's people
SECRET_OVERLAP_SECONDS: Final = 86_400  # after a rotation, for so long the secret before signs as well
AT_ONCE_MAX: Final = 8
_ROUND_MAX: Final = 64
_FAN_OUT_MAX: Final = 500
_GONE: Final = 410
_BACKOFF_SECONDS: Final = (5, 30, 120, 600, 1800, 3600, 10_800)
_DAY_SECONDS: Final = 86_400

RandomBytes = Callable[[int], bytes]


class WebhookError(Error):
    """Something about webhooks that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """What serving processes do with events. Any number of them may do it at once."""

    store: SqlStore
    settings: WebhookSettings
    kept_days: int
    clock: Callable[[], int]
    random_bytes: RandomBytes

    def run_once(self) -> int:
        """Place, fan out, send what is due. Returns how many were sent."""
        self.place_all()
        if self.store.read(self._has_fan_out):
            self.store.transact(self._fan_out)
        sent = 0
        while claimed := self._claim():
            with ThreadPoolExecutor(max_workers=AT_ONCE_MAX, thread_name_prefix="webhook") as pool:
                outcomes = list(pool.map(self._send, claimed))
            self._keep(outcomes)
            sent += len(claimed)
        return sent

    def place_all(self) -> None:
        """Give every event of the outbox its position."""
        while self.store.read(lambda transaction: transaction.events.has_unplaced()):
            self.store.transact(lambda transaction: transaction.events.assign_positions(self.random_bytes))

    def prune(self) -> int:
        """Forget what is older than it has to be kept."""
        before = self.clock() - self.kept_days * _DAY_SECONDS
        forgotten = 0
        while count := self.store.transact(lambda transaction: transaction.events.prune(before=before)):
            forgotten += count
        return forgotten

    def _has_fan_out(self, transaction: SqlTransaction) -> bool:
        last = transaction.events.last_position()
        return any(webhook.position < last for webhook in transaction.events.webhooks())

    def _fan_out(self, transaction: SqlTransaction) -> None:
        tables, now = transaction.events, self.clock()
        tables.lock("deliveries")
        last = tables.last_position()
        for webhook in tables.webhooks():
            position = webhook.position
            while position < last:
                found = tables.find(after=position, limit=_FAN_OUT_MAX, account=webhook.account, kinds=webhook.kinds)
                found = [event for event in found if event.position <= last]
                tables.queue(webhook, found, now=now)
                position = found[-1].position if len(found) == _FAN_OUT_MAX else last
            if position != webhook.position:
                tables.set_webhook(webhook.webhook_id, position=position)

    def _claim(self) -> list[tuple[Webhook, WebhookDelivery, PlacedEvent]]:
        now = self.clock()
        is_due = self.store.read(lambda transaction: transaction.events.is_due(now=now))
        if not is_due:
            return []
        lease = now + 2 * self.settings.timeout_seconds * (_ROUND_MAX // AT_ONCE_MAX) + 10

        def claim(transaction: SqlTransaction) -> list[tuple[Webhook, WebhookDelivery, PlacedEvent]]:
            webhooks = {webhook.webhook_id: webhook for webhook in transaction.events.webhooks()}
            found = transaction.events.claim(now=now, until=lease, limit=_ROUND_MAX)
            return [(webhooks[delivery.webhook_id], delivery, event) for delivery, event in found]

        return self.store.transact(claim)

    def _send(self, claimed: tuple[Webhook, WebhookDelivery, PlacedEvent]) -> tuple[Webhook, WebhookDelivery]:
        webhook, delivery, event = claimed
        body, now = body_of(event), self.clock()
        headers = {"Content-Type": "application/json", "User-Agent": "Tallystick", **signed(webhook, event, body, now)}
        answered = safe_post.post(
            webhook.url,
            body=body,
            headers=headers,
            allowed=self.settings.allow_private if webhook.owner is None else (),
            timeout_seconds=self.settings.timeout_seconds,
        )
        jitter = self.random_bytes(1)[0] / 255
        give_up = self.settings.give_up_hours * 3600
        return webhook, outcome_of(delivery, answered, now=self.clock(), jitter=jitter, give_up_seconds=give_up)

    def _keep(self, outcomes: Sequence[tuple[Webhook, WebhookDelivery]]) -> None:
        now = self.clock()

        def keep(transaction: SqlTransaction) -> None:
            for webhook, delivery in sorted(outcomes, key=lambda pair: (pair[1].webhook_id, pair[1].position)):
                transaction.events.keep_delivery(delivery)
                if delivery.status == _GONE:
                    transaction.events.set_webhook(
                        webhook.webhook_id, stopped_at=now, stopped_why="it answered 410 Gone"
                    )

        self.store.transact(keep)


def outcome_of(
    delivery: WebhookDelivery, answered: Answered, *, now: int, jitter: float, give_up_seconds: int
) -> WebhookDelivery:
    """What an attempt makes of a delivery. ``jitter``, from 0 to 1, spreads the next one by a fifth either way."""
    attempts = delivery.attempts + 1
    state = DELIVERED if answered.is_taken else WAITING
    pause = _BACKOFF_SECONDS[min(attempts, len(_BACKOFF_SECONDS)) - 1]
    next_at = now + max(1, round(pause * (0.8 + 0.4 * jitter)))
    if state == WAITING and (next_at - delivery.first_at > give_up_seconds or answered.status == _GONE):
        state = GIVEN_UP
    return replace(
        delivery,
        state=state,
        attempts=attempts,
        next_at=next_at,
        last_at=now,
        status=answered.status,
        detail=answered.detail,
    )


def body_of(event: PlacedEvent) -> bytes:
    """An event as it is sent, and as ``GET /v1/events`` shows it."""
    return json.dumps(event_view(event), ensure_ascii=False, separators=(",", ":")).encode()


def event_view(event: PlacedEvent) -> dict[str, object]:
    """An event for programs."""
    return {
        "type": event.kind,
        "id": event.event_id,
        "timestamp": dt.datetime.fromtimestamp(event.at, dt.UTC).isoformat().replace("+00:00", "Z"),
        "position": event.position,
        "account": event.account,
        "data": dict(event.data),
    }


def signed(webhook: Webhook, event: PlacedEvent, body: bytes, now: int) -> dict[str, str]:
    """The headers of Standard Webhooks: signed with the secret, and for a while with the one before it as well."""
    text = f"{event.event_id}.{now}.".encode() + body
    secrets = [webhook.secret]
    if webhook.secret_before is not None and now < (webhook.secret_before_until or 0):
        secrets.append(webhook.secret_before)
    signatures = [f"v1,{base64.b64encode(hmac.digest(secret, text, 'sha256')).decode()}" for secret in secrets]
    return {
        "webhook-id": event.event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(signatures),
    }


def secret_text(webhook: Webhook) -> str:
    """The secret as its receiver configures it."""
    return SECRET_PREFIX + base64.b64encode(webhook.secret).decode()


def add(
    transaction: SqlTransaction,
    *,
    url: str,
    account: str | None,
    kinds: Sequence[str],
    after: int | None,
    allowed: Sequence[str],
    by: str,
    random_bytes: RandomBytes,
    now: int,
    owner: str | None = None,
) -> Webhook:
    """A new endpoint; it gets what happens from now on, or what is behind the position ``after``. Raises ``Error``.

    ``owner``: the account whose people make it; None: the vendor. ``allowed``: what it may go to inside.
    """
    safe_post.check_url(url, allowed)
    unknown = set(kinds) - set(event_kinds.all_kinds())
    if unknown:
        raise WebhookError("event-kind-unknown", expected="a kind of event", seen=min(unknown)[:60])
    transaction.events.lock("webhooks")
    most = WEBHOOKS_MAX if owner is None else ACCOUNT_WEBHOOKS_MAX
    if transaction.events.count_webhooks(owner) >= most:
        raise WebhookError("webhooks-full", expected=f"at most {most} webhooks", seen="as many")
    webhook = Webhook(
        webhook_id="WH-" + base64.b32encode(random_bytes(10)).decode(),
        url=url,
        secret=random_bytes(SECRET_BYTES),
        account=account,
        kinds=tuple(sorted(set(kinds))),
        position=transaction.events.last_position() if after is None else check_place(transaction, after),
        created_at=now,
        created_by=by,
        owner=owner,
    )
    transaction.events.add_webhook(webhook)
    return webhook


def check_place(transaction: SqlTransaction, after: int) -> int:
    """A position of the stream to begin behind. Raises ``WebhookError`` (``cursor-wrong``)."""
    last = transaction.events.last_position()
    if not 0 <= after <= last:
        raise WebhookError("cursor-wrong", expected=f"a position from 0 to {last}", seen=str(after)[:30])
    return after
