"""Events on their way to webhooks: at least once, signed, with patience, replayable.

A slow receiver costs only itself: what is sent at once is shared out by ``shares``, nobody waits for another's answer,
and what waits for one endpoint is bounded; what is beyond it stays in the stream until there is room.

Events get their positions; each endpoint gets a delivery for each event that it wants; deliveries that are due are taken
for a while, sent, and kept with what came of them. A process that dies in between sends again: whoever receives tells
repeats by ``webhook-id``. Signatures are those of Standard Webhooks. No database transaction is open while anything is
sent.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Final

from tallystick.activation.core import events as event_kinds
from tallystick.activation.outbound import safe_post
from tallystick.activation.outbound.safe_post import Answered
from tallystick.activation.outbound.shares import PROMPT_SECONDS, DueEndpoint, Shares
from tallystick.activation.settings import WebhookSettings
from tallystick.activation.storage import PlacedEvent, SqlStore, SqlTransaction, Webhook, WebhookDelivery
from tallystick.activation.storage.events import DELIVERED, GIVEN_UP, WAITING
from tallystick.errors import Error
from tallystick.sentences import _

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how every secret begins
SECRET_BYTES: Final = 24
WEBHOOKS_MAX: Final = 100  # of the vendor
ACCOUNT_WEBHOOKS_MAX: Final = 10  # of one account's people
SECRET_OVERLAP_SECONDS: Final = 86_400  # after a rotation, for so long the secret before signs as well
ROUND_SECONDS: Final = 1.0  # of a serving process; then it sees what else happened
QUEUE_MAX: Final = 1000  # deliveries that wait for one endpoint; the rest waits in the stream
BEGUN_MAX: Final = 16  # endpoints that are claimed in one transaction
_IN_A_ROW_MAX: Final = 16  # to one endpoint, one after the other, by one thread
_LOOK_SECONDS: Final = 0.2
_FAN_OUT_MAX: Final = 100  # to one endpoint, before others have their turn
_GONE: Final = 410
_BACKOFF_SECONDS: Final = (5, 30, 120, 600, 1800, 3600, 10_800)
_DAY_SECONDS: Final = 86_400

_LOG: Final = logging.getLogger(__name__)

RandomBytes = Callable[[int], bytes]
_Claimed = tuple[Webhook, list[tuple[WebhookDelivery, PlacedEvent]]]


class WebhookError(Error):
    """Something about webhooks that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """What became of the deliveries that one thread sent to an endpoint; ``unsent`` go back as they were."""

    endpoint: DueEndpoint
    webhook: Webhook
    outcomes: tuple[WebhookDelivery, ...]
    unsent: tuple[WebhookDelivery, ...]
    is_prompt: bool
    is_slow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """What serving processes do with events. Any number of them may do it at once."""

    store: SqlStore
    settings: WebhookSettings
    kept_days: int
    clock: Callable[[], int]
    random_bytes: RandomBytes
    _shares: Shares = field(default_factory=Shares, init=False)
    _done: SimpleQueue[_Sent] = field(default_factory=SimpleQueue, init=False)

    def run_once(self, seconds: float | None = None) -> int:
        """Place, fan out, send what is due. Returns how many were sent.

        ``seconds`` None: until nothing is due and everything is answered. Otherwise at most about so long: what is
        still under way then goes on, and the next call keeps what came of it.
        """
        sent, passed = 0, 0.0
        while True:
            self.place_all()
            if self.store.read(self._has_fan_out):
                self.store.transact(self._fan_out)
            begun, is_more = self._begin()
            sent += begun
            if is_more or self.store.read(
                self._has_fan_out
            ):  # first what happened meanwhile, and who has fewest under way
                continue
            if not self._shares.under_way or (seconds is not None and passed >= seconds):
                return sent
            self._keep(self._finished())
            passed += _LOOK_SECONDS  # at most: it was shorter where something was answered

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
        return bool(self._lagging(transaction))

    def _lagging(self, transaction: SqlTransaction) -> list[tuple[Webhook, int]]:
        """Endpoints that lack events of the stream and have room for some, with how many."""
        tables = transaction.events
        last = tables.last_position()
        behind = [webhook for webhook in tables.webhooks() if webhook.position < last]
        waiting = tables.count_waiting([webhook.webhook_id for webhook in behind])
        rooms = [(webhook, QUEUE_MAX - waiting.get(webhook.webhook_id, 0)) for webhook in behind]
        return [(webhook, min(room, _FAN_OUT_MAX)) for webhook, room in rooms if room > 0]

    def _fan_out(self, transaction: SqlTransaction) -> None:
        """Some events to every endpoint that lacks them. Endpoints that lack the same ones cost as much as one of them."""
        tables, now = transaction.events, self.clock()
        tables.lock("deliveries")
        last = tables.last_position()
        alike: dict[tuple[int, str | None, tuple[str, ...], int], list[str]] = {}
        for webhook, room in self._lagging(transaction):
            wanted = (webhook.position, webhook.account, tuple(webhook.kinds), room)
            alike.setdefault(wanted, []).append(webhook.webhook_id)
        for (after, account, kinds, room), webhook_ids in alike.items():
            found = [event.position for event in tables.find(after=after, limit=room, account=account, kinds=kinds)]
            position = found[-1] if len(found) == room else last
            tables.queue(webhook_ids, [place for place in found if place <= last], now=now)
            tables.set_webhooks(webhook_ids, position=min(position, last))

    def _begin(self) -> tuple[int, bool]:
        """Send what is due and may go now, each endpoint's by a thread of its own.

        Returns how many deliveries, and whether there may be more: some endpoints are claimed in one transaction, so that
        sixty cost no sixty commits, and whoever's event happens meanwhile waits for that one only.
        """
        now = self.clock()
        due = [
            DueEndpoint(webhook_id=webhook_id, owner=owner)
            for webhook_id, owner in self.store.read(lambda transaction: transaction.events.due_webhooks(now=now))
        ]
        chosen = list(islice(self._shares.choose(due), BEGUN_MAX))
        if not chosen:
            return 0, False
        claimed: dict[str, _Claimed] = {}
        try:
            claimed = self.store.transact(lambda transaction: self._claim(transaction, chosen, now))
        finally:
            for endpoint in chosen:
                if endpoint.webhook_id not in claimed:
                    self._shares.end(endpoint, is_prompt=True)
        for endpoint in chosen:
            if endpoint.webhook_id in claimed:
                arguments = (endpoint, *claimed[endpoint.webhook_id])
                # A daemon: whoever stops waits for no endpoint; what was under way is sent again.
                threading.Thread(target=self._send_all, args=arguments, name="webhook", daemon=True).start()
        return sum(len(deliveries) for _other, deliveries in claimed.values()), len(chosen) == BEGUN_MAX

    def _claim(self, transaction: SqlTransaction, chosen: Sequence[DueEndpoint], now: int) -> dict[str, _Claimed]:
        # Who is slow is left after one; so the time for one, and a little for each that is not slow.
        until = now + self.settings.timeout_seconds + round(_IN_A_ROW_MAX * PROMPT_SECONDS) + 10
        tables = transaction.events
        webhook_ids = sorted({one.webhook_id for one in chosen})
        found = tables.claim(webhook_ids, now=now, until=until, limit=_IN_A_ROW_MAX)
        known = {webhook.webhook_id: webhook for webhook in tables.webhooks()}
        return {webhook_id: (known[webhook_id], deliveries) for webhook_id, deliveries in found.items()}

    def _send_all(
        self, endpoint: DueEndpoint, webhook: Webhook, deliveries: Sequence[tuple[WebhookDelivery, PlacedEvent]]
    ) -> None:
        outcomes: list[WebhookDelivery] = []
        is_prompt, is_slow = True, False
        try:
            for delivery, event in deliveries:
                if is_slow:
                    break
                started = time.monotonic()
                outcomes.append(self._send(webhook, delivery, event))
                is_slow = time.monotonic() - started >= PROMPT_SECONDS
                is_prompt = is_prompt and not is_slow and outcomes[-1].state == DELIVERED
        except Exception:  # noqa: BLE001 - whoever waits for this slot must get it, and it is told
            is_prompt, is_slow = False, True
            _LOG.exception("sending an event failed by a fault of Tallystick, it is tried again")
        finally:
            unsent = tuple(delivery for delivery, _other in deliveries[len(outcomes) :])
            self._done.put(
                _Sent(
                    endpoint=endpoint,
                    webhook=webhook,
                    outcomes=tuple(outcomes),
                    unsent=unsent,
                    is_prompt=is_prompt,
                    is_slow=is_slow,
                )
            )

    def _send(self, webhook: Webhook, delivery: WebhookDelivery, event: PlacedEvent) -> WebhookDelivery:
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
        return outcome_of(delivery, answered, now=self.clock(), jitter=jitter, give_up_seconds=give_up)

    def _finished(self) -> list[_Sent]:
        """Everything that was answered; waits a moment for the first."""
        found: list[_Sent] = []
        with contextlib.suppress(Empty):
            found.append(self._done.get(timeout=_LOOK_SECONDS))
            while True:
                found.append(self._done.get_nowait())
        return found

    def _keep(self, finished: Sequence[_Sent]) -> None:
        if not finished:
            return
        now = self.clock()

        def keep(transaction: SqlTransaction) -> None:
            for sent in sorted(finished, key=lambda sent: sent.webhook.webhook_id):
                webhook_id = sent.webhook.webhook_id
                for delivery in sent.outcomes:
                    transaction.events.keep_delivery(delivery)
                    if delivery.status == _GONE:
                        transaction.events.set_webhook(webhook_id, stopped_at=now, stopped_why="it answered 410 Gone")
                for delivery in sent.unsent:
                    transaction.events.keep_delivery(replace(delivery, next_at=now))
                failed = [delivery for delivery in sent.outcomes if delivery.state == WAITING]
                if failed and sent.is_slow:  # the others wait as long as it does: each would only take as long
                    transaction.events.postpone(webhook_id, until=failed[-1].next_at)

        try:
            self.store.transact(keep)
        finally:
            for sent in finished:
                self._shares.end(sent.endpoint, is_prompt=sent.is_prompt)


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
        raise WebhookError("event-kind-unknown", expected=_("a kind of event"), seen=min(unknown)[:60])
    transaction.events.lock("webhooks")
    most = WEBHOOKS_MAX if owner is None else ACCOUNT_WEBHOOKS_MAX
    if transaction.events.count_webhooks(owner) >= most:
        raise WebhookError("webhooks-full", expected=_("at most {most} webhooks", most=most), seen=_("as many"))
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
        raise WebhookError("cursor-wrong", expected=_("a position from 0 to {last}", last=last), seen=str(after)[:30])
    return after
