"""The stream of events, webhooks and their deliveries: all SQL of them.

A position in the stream is given after the commit that made the event, by whoever holds the lock ``events``. So positions
rise in the order in which events became visible: a reader who asks for what is behind a position never misses what was
committed later with an earlier number, on any engine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, literal, select, true, tuple_, update

from tallystick.activation.core.ports import Event
from tallystick.activation.storage.dialects import KEYS_MAX, Dialect
from tallystick.activation.storage.seals import sealed
from tallystick.activation.storage.tables import DELIVERIES, EVENTS, MARKS, OUTBOX, TOLD, WEBHOOKS
from tallystick.structs import know

OUTBOX_ROWS_MAX: Final = 200
PLACED_MAX: Final = 1000  # in one transaction, or what one row holds: on SQLite, messages wait for it
PRUNED_MAX: Final = 5000
_POSITION: Final = "event-position"
_EVENT_ID_BYTES: Final = 10  # drawn for all that get their positions at once; the position is the rest of an id


class DeliveryState(StrEnum):
    """What becomes of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given-up"


WAITING: Final = DeliveryState.WAITING.value
DELIVERED: Final = DeliveryState.DELIVERED.value
GIVEN_UP: Final = DeliveryState.GIVEN_UP.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedEvent:
    """An event with its position in the stream."""

    position: int
    event_id: str
    account: str | None
    kind: str
    at: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An endpoint that gets events. ``account`` None: of every account; ``kinds`` empty: every kind.

    ``owner`` None: the vendor's; else the account whose people made it. ``secret_before`` signs as well until a moment.
    """

    webhook_id: str
    url: str
    secret: bytes
    account: str | None
    kinds: tuple[str, ...]
    position: int
    created_at: int
    created_by: str
    stopped_at: int | None = None
    stopped_why: str | None = None
    owner: str | None = None
    secret_before: bytes | None = None
    secret_before_until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """One event on its way to one endpoint, and what came of it."""

    webhook_id: str
    position: int
    state: str
    attempts: int
    first_at: int
    next_at: int
    last_at: int | None
    status: int | None
    detail: str


class EventTables:
    """What a unit of work can do with them."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    # The stream

    def assign_positions(self, random_bytes: Callable[[int], bytes]) -> int:
        """Give the oldest events of the outbox their positions. Returns how many. Others who ask wait."""
        self._dialect.lock_names(self._connection, ["events"])
        found = self._connection.execute(select(OUTBOX).order_by(OUTBOX.c.id).limit(OUTBOX_ROWS_MAX)).all()
        if not found:
            return 0
        position = self.mark(_POSITION) or 0
        prefix = "evt_" + base64.b32encode(random_bytes(_EVENT_ID_BYTES)).decode().lower()
        values: list[dict[str, Any]] = []
        ids: list[int] = []
        for row in found:
            if len(values) >= PLACED_MAX:
                break
            ids.append(row.id)
            for event in _TOLD.decode(row.events):
                position += 1
                event_row = {
                    "position": position,
                    "event_id": f"{prefix}{position}",
                    "account": event.account,
                    "kind": event.kind,
                    "at": event.at,
                    "data": bytes(event.data).decode(),
                }
                values.append(sealed("events", event_row))
        if values:
            self._dialect.batches.write(self._connection, {"events": values})
        for start in range(0, len(ids), KEYS_MAX):
            self._connection.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(ids[start : start + KEYS_MAX])))
        self.set_mark(_POSITION, position)
        return len(values)

    def has_unplaced(self) -> bool:
        """Whether the outbox holds anything."""
        return self._connection.execute(select(OUTBOX.c.id).limit(1)).first() is not None

    def last_position(self) -> int:
        """The newest position of the stream."""
        return self.mark(_POSITION) or 0

    def find(
        self, *, after: int, limit: int, account: str | None = None, kinds: Collection[str] = ()
    ) -> list[PlacedEvent]:
        """Events behind a position, in order. ``account`` None: of every account."""
        statement = select(EVENTS).where(EVENTS.c.position > after)
        if account is not None:
            statement = statement.where(EVENTS.c.account == account)
        if kinds:
            statement = statement.where(EVENTS.c.kind.in_(sorted(kinds)))
        return [_event(row) for row in self._connection.execute(statement.order_by(EVENTS.c.position).limit(limit))]

    def prune(self, *, before: int) -> int:
        """Forget events and ended deliveries older than a moment, some at a time. Returns how many.

        Only from the beginning of the stream: what is left has no gap, and a clock that was wrong for a while makes none.
        """
        kept = select(func.min(EVENTS.c.position)).where(EVENTS.c.at >= before).scalar_subquery()
        last = select(func.max(EVENTS.c.position) + 1).scalar_subquery()
        old = select(EVENTS.c.position).where(EVENTS.c.position < func.coalesce(kept, last))
        old = old.order_by(EVENTS.c.position).limit(PRUNED_MAX)
        positions = [row.position for row in self._connection.execute(old)]
        for start in range(0, len(positions), KEYS_MAX):
            part = positions[start : start + KEYS_MAX]
            self._connection.execute(
                delete(DELIVERIES).where(DELIVERIES.c.position.in_(part), DELIVERIES.c.state != WAITING)
            )
            self._connection.execute(delete(EVENTS).where(EVENTS.c.position.in_(part)))
        return len(positions)

    # Marks, and what was told

    def mark(self, name: str) -> int | None:
        """A named number."""
        found: int | None = self._connection.execute(select(MARKS.c.value).where(MARKS.c.name == name)).scalar()
        return found

    def set_mark(self, name: str, value: int) -> None:
        """Set a named number."""
        statement = self._dialect.insert(MARKS)
        statement = statement.on_conflict_do_update(
            index_elements=[MARKS.c.name], set_={"value": statement.excluded["value"]}
        )
        self._connection.execute(statement, [{"name": name, "value": value}])

    def lock(self, name: str) -> None:
        """Whoever asks for the same name waits until this unit of work ends."""
        self._dialect.lock_names(self._connection, [name])

    def not_told(self, subjects: Sequence[str]) -> list[str]:
        """Those of ``subjects`` that were never told, in their order."""
        told: set[str] = set()
        for start in range(0, len(subjects), KEYS_MAX):
            part = subjects[start : start + KEYS_MAX]
            told |= {row.subject for row in self._connection.execute(select(TOLD).where(TOLD.c.subject.in_(part)))}
        return [subject for subject in dict.fromkeys(subjects) if subject not in told]

    def keep_told(self, subjects: Sequence[str], *, at: int) -> None:
        """They were told."""
        if subjects:
            self._connection.execute(insert(TOLD), [{"subject": subject, "at": at} for subject in subjects])

    # Webhooks

    def webhooks(self) -> list[Webhook]:
        """Every endpoint, oldest first."""
        statement = select(WEBHOOKS).order_by(WEBHOOKS.c.created_at, WEBHOOKS.c.webhook_id)
        return [_webhook(row) for row in self._connection.execute(statement)]

    def webhook(self, webhook_id: str) -> Webhook | None:
        """One endpoint."""
        row = self._connection.execute(select(WEBHOOKS).where(WEBHOOKS.c.webhook_id == webhook_id)).first()
        return None if row is None else _webhook(row)

    def find_webhooks(self, *, owner: str | None, after: str, limit: int) -> list[Webhook]:
        """Endpoints by id. ``owner`` None: everybody's."""
        statement = select(WEBHOOKS).where(WEBHOOKS.c.webhook_id > after)
        if owner is not None:
            statement = statement.where(WEBHOOKS.c.owner == owner)
        return [
            _webhook(row) for row in self._connection.execute(statement.order_by(WEBHOOKS.c.webhook_id).limit(limit))
        ]

    def count_webhooks(self, owner: str | None) -> int:
        """How many endpoints are the vendor's (None), or an account's."""
        statement = select(func.count()).select_from(WEBHOOKS).where(WEBHOOKS.c.owner.is_not_distinct_from(owner))
        return int(self._connection.execute(statement).scalar_one())

    def add_webhook(self, webhook: Webhook) -> None:
        """A new endpoint."""
        values = {
            "webhook_id": webhook.webhook_id,
            "url": webhook.url,
            "secret": webhook.secret,
            "account": webhook.account,
            "kinds": kinds_text(webhook.kinds),
            "position": webhook.position,
            "created_at": webhook.created_at,
            "created_by": webhook.created_by,
            "owner": webhook.owner,
        }
        self._connection.execute(insert(WEBHOOKS), [values])

    def remove_webhook(self, webhook_id: str) -> None:
        """Forget an endpoint and its deliveries."""
        self.lock("deliveries")
        self._connection.execute(delete(DELIVERIES).where(DELIVERIES.c.webhook_id == webhook_id))
        self._connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.webhook_id == webhook_id))

    def set_webhook(self, webhook_id: str, **columns: object) -> None:
        """Change columns of an endpoint."""
        self.set_webhooks([webhook_id], **columns)

    def set_webhooks(self, webhook_ids: Sequence[str], **columns: object) -> None:
        """The same of some endpoints."""
        self._connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.webhook_id.in_(webhook_ids)).values(columns))

    # Deliveries

    def queue(self, webhook_ids: Sequence[str], positions: Sequence[int], *, now: int) -> None:
        """A delivery of each event to each endpoint; one that was there begins anew."""
        began = {"state": WAITING, "attempts": 0, "first_at": now, "next_at": now, "detail": ""}
        half = KEYS_MAX // 2
        for endpoint, place in product(range(0, len(webhook_ids), half), range(0, len(positions), half)):
            pairs = select(WEBHOOKS.c.webhook_id, EVENTS.c.position, *map(literal, began.values()))
            pairs = pairs.join_from(WEBHOOKS, EVENTS, true()).where(
                WEBHOOKS.c.webhook_id.in_(webhook_ids[endpoint : endpoint + half]),
                EVENTS.c.position.in_(positions[place : place + half]),
            )
            statement = self._dialect.insert(DELIVERIES).from_select(["webhook_id", "position", *began], pairs)
            self._connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[DELIVERIES.c.webhook_id, DELIVERIES.c.position],
                    set_={name: statement.excluded[name] for name in began},
                )
            )

    def due_webhooks(self, *, now: int) -> list[tuple[str, str | None]]:
        """Endpoints in service to which something is due, with the account that is behind each, oldest first."""
        account = func.coalesce(WEBHOOKS.c.owner, WEBHOOKS.c.account)
        statement = (
            select(DELIVERIES.c.webhook_id, account.label("account"))
            .join(WEBHOOKS, WEBHOOKS.c.webhook_id == DELIVERIES.c.webhook_id)
            .where(DELIVERIES.c.state == WAITING, DELIVERIES.c.next_at <= now, WEBHOOKS.c.stopped_at.is_(None))
            .group_by(DELIVERIES.c.webhook_id, WEBHOOKS.c.owner, WEBHOOKS.c.account)
            .order_by(func.min(DELIVERIES.c.next_at), DELIVERIES.c.webhook_id)
        )
        return [(row.webhook_id, row.account) for row in self._connection.execute(statement)]

    def count_waiting(self, webhook_ids: Sequence[str]) -> dict[str, int]:
        """How many deliveries wait for each of some endpoints; none where none does."""
        found: dict[str, int] = {}
        for start in range(0, len(webhook_ids), KEYS_MAX):
            part = webhook_ids[start : start + KEYS_MAX]
            statement = (
                select(DELIVERIES.c.webhook_id, func.count().label("waiting"))
                .where(DELIVERIES.c.state == WAITING, DELIVERIES.c.webhook_id.in_(part))
                .group_by(DELIVERIES.c.webhook_id)
            )
            found |= {row.webhook_id: row.waiting for row in self._connection.execute(statement)}
        return found

    def postpone(self, webhook_id: str, *, until: int) -> None:
        """Nothing that waits for an endpoint is due before a moment."""
        self._connection.execute(
            update(DELIVERIES)
            .where(DELIVERIES.c.webhook_id == webhook_id, DELIVERIES.c.state == WAITING, DELIVERIES.c.next_at < until)
            .values(next_at=until)
        )

    def claim(
        self, webhook_ids: Sequence[str], *, now: int, until: int, limit: int
    ) -> dict[str, list[tuple[WebhookDelivery, PlacedEvent]]]:
        """Of each endpoint some deliveries that are due, taken until a moment: nobody else takes them before it."""
        self.lock("deliveries")
        order = (DELIVERIES.c.next_at, DELIVERIES.c.position)
        place = func.row_number().over(partition_by=DELIVERIES.c.webhook_id, order_by=order).label("place")
        due = (
            select(DELIVERIES.c.webhook_id, DELIVERIES.c.position, place)
            .join(WEBHOOKS, WEBHOOKS.c.webhook_id == DELIVERIES.c.webhook_id)
            .where(
                DELIVERIES.c.webhook_id.in_(webhook_ids),
                DELIVERIES.c.state == WAITING,
                DELIVERIES.c.next_at <= now,
                WEBHOOKS.c.stopped_at.is_(None),
            )
            .subquery()
        )
        statement = (
            select(DELIVERIES, EVENTS.c.event_id, EVENTS.c.account, EVENTS.c.kind, EVENTS.c.at, EVENTS.c.data)
            .join(due, and_(due.c.webhook_id == DELIVERIES.c.webhook_id, due.c.position == DELIVERIES.c.position))
            .join(EVENTS, EVENTS.c.position == DELIVERIES.c.position)
            .where(due.c.place <= limit)
            .order_by(*order)
        )
        found = [(_delivery(row), _event(row)) for row in self._connection.execute(statement)]
        for start in range(0, len(found), KEYS_MAX // 2):
            taken = [(one.webhook_id, one.position) for one, _other in found[start : start + KEYS_MAX // 2]]
            key = tuple_(DELIVERIES.c.webhook_id, DELIVERIES.c.position)
            self._connection.execute(update(DELIVERIES).where(key.in_(taken)).values(next_at=until))
        claimed: dict[str, list[tuple[WebhookDelivery, PlacedEvent]]] = {}
        for delivery, event in found:
            claimed.setdefault(delivery.webhook_id, []).append((delivery, event))
        return claimed

    def keep_delivery(self, delivery: WebhookDelivery) -> None:
        """What came of an attempt."""
        key = (DELIVERIES.c.webhook_id == delivery.webhook_id, DELIVERIES.c.position == delivery.position)
        self._connection.execute(
            update(DELIVERIES)
            .where(*key)
            .values(
                state=delivery.state,
                attempts=delivery.attempts,
                next_at=delivery.next_at,
                last_at=delivery.last_at,
                status=delivery.status,
                detail=delivery.detail,
            )
        )

    def deliveries(
        self, *, webhook_id: str | None = None, state: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[tuple[WebhookDelivery, PlacedEvent]]:
        """Newest first."""
        statement = select(
            DELIVERIES, EVENTS.c.event_id, EVENTS.c.account, EVENTS.c.kind, EVENTS.c.at, EVENTS.c.data
        ).join(EVENTS, EVENTS.c.position == DELIVERIES.c.position)
        if webhook_id is not None:
            statement = statement.where(DELIVERIES.c.webhook_id == webhook_id)
        if state is not None:
            statement = statement.where(DELIVERIES.c.state == state)
        if before is not None:
            statement = statement.where(DELIVERIES.c.position < before)
        statement = statement.order_by(DELIVERIES.c.position.desc(), DELIVERIES.c.webhook_id).limit(limit)
        return [(_delivery(row), _event(row)) for row in self._connection.execute(statement)]

    def delivery(self, webhook_id: str, position: int) -> tuple[WebhookDelivery, PlacedEvent] | None:
        """One delivery."""
        found = self.deliveries(webhook_id=webhook_id, before=position + 1, limit=1)
        return found[0] if found and found[0][0].position == position else None

    def retry(
        self,
        *,
        webhook_id: str,
        positions: Sequence[int] | None,
        now: int,
        states: Collection[str] = (WAITING, GIVEN_UP),
    ) -> int:
        """Have deliveries of some states tried at once, and anew (``positions`` None: all of them). Returns how many."""
        statement = update(DELIVERIES).where(
            DELIVERIES.c.webhook_id == webhook_id, DELIVERIES.c.state.in_(sorted(states))
        )
        if positions is not None:
            statement = statement.where(DELIVERIES.c.position.in_(positions))
        return self._connection.execute(statement.values(state=WAITING, attempts=0, first_at=now, next_at=now)).rowcount

    def count_open(self, webhook_ids: Collection[str], *, owner: str | None) -> dict[str, dict[str, int]]:
        """How many deliveries of an owner's endpoints (None: of everybody's) wait or were given up, by endpoint and state."""
        statement = (
            select(DELIVERIES.c.webhook_id, DELIVERIES.c.state, func.count())
            .join(WEBHOOKS, WEBHOOKS.c.webhook_id == DELIVERIES.c.webhook_id)
            .where(DELIVERIES.c.webhook_id.in_(sorted(webhook_ids)), DELIVERIES.c.state != DELIVERED)
            .group_by(DELIVERIES.c.webhook_id, DELIVERIES.c.state)
        )
        if owner is not None:
            statement = statement.where(WEBHOOKS.c.owner == owner)
        found: dict[str, dict[str, int]] = {}
        for webhook_id, state, count in self._connection.execute(statement):
            found.setdefault(str(webhook_id), {})[str(state)] = int(count)
        return found

    def count_deliveries(self) -> dict[str, int]:
        """How many deliveries wait, and how many were given up."""
        statement = (
            select(DELIVERIES.c.state, func.count()).where(DELIVERIES.c.state != DELIVERED).group_by(DELIVERIES.c.state)
        )
        return {str(state): int(count) for state, count in self._connection.execute(statement)}


def kinds_text(kinds: Iterable[str]) -> str:
    """Kinds of events as a column has them."""
    return json.dumps(sorted(set(kinds)))


def outbox_values(events: Sequence[Event]) -> dict[str, Any]:
    """The one row of a unit of work; ``_EventRow`` reads it again."""
    return {"events": msgspec.json.encode(events).decode()}


class _EventRow(msgspec.Struct, frozen=True):
    """An event in the outbox; its data is never looked at."""

    kind: str
    at: int
    account: str | None
    data: msgspec.Raw


_TOLD: Final = msgspec.json.Decoder(list[_EventRow])
know(_EventRow)


def _event(row: Any) -> PlacedEvent:
    return PlacedEvent(
        position=row.position,
        event_id=row.event_id,
        account=row.account,
        kind=row.kind,
        at=row.at,
        data=json.loads(row.data),
    )


def _webhook(row: Any) -> Webhook:
    return Webhook(
        webhook_id=row.webhook_id,
        url=row.url,
        secret=bytes(row.secret),
        account=row.account,
        kinds=tuple(json.loads(row.kinds)),
        position=row.position,
        created_at=row.created_at,
        created_by=row.created_by,
        stopped_at=row.stopped_at,
        stopped_why=row.stopped_why,
        owner=row.owner,
        secret_before=None if row.secret_before is None else bytes(row.secret_before),
        secret_before_until=row.secret_before_until,
    )


def _delivery(row: Any) -> WebhookDelivery:
    return WebhookDelivery(
        webhook_id=row.webhook_id,
        position=row.position,
        state=row.state,
        attempts=row.attempts,
        first_at=row.first_at,
        next_at=row.next_at,
        last_at=row.last_at,
        status=row.status,
        detail=row.detail,
    )
