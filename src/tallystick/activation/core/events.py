"""What is reported to others about one unit of work: derived from what it writes, and written with it.

Events are for people's programs: each says that something *has happened*, with the numbers of that moment. Nothing is
decided from them. One unit of work writes all of its events as one row of the outbox, so that a batch of any size costs
one row; ``storage.events`` gives them their position in the stream afterwards. docs/operations/webhooks.md lists the kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, Final

from tallystick.activation.core.ports import Changes, Event, EventKind, FieldServer, MessageOutcome, Status
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.ledger import Account

_MOVED: Final = {Account.RETURNING: EventKind.RETURN_OPENED, Account.AVAILABLE: EventKind.RETURN_CREDITED}
_OUTSIDE: Final = frozenset({Account.BOUGHT, Account.RETIRED})
_terms: Final = attrgetter("expires_at", "engineering", "suspended")
_PER_LINE_MAX: Final = 1000  # beyond so many lines of one unit of work, changes of terms are told as a sum


def events_of(
    changes: Changes,
    *,
    field_servers_before: Mapping[DeviceId, FieldServer],
    lines_before: Mapping[LineId, Line],
    lines: Mapping[LineId, Line],
    now: int,
) -> list[Event]:
    """Every event of one unit of work, in the order in which people want to read them."""
    return [
        *_of_lines(changes, lines_before, now),
        *_of_standing(changes, field_servers_before, now),
        *_of_rights(changes, lines, now),
        *_of_refusals(changes, now),
        *_of_incidents(changes, now),
    ]


def entitlement_created(entitlement: Entitlement, *, by: str, now: int) -> Event:
    """A new entitlement. Its ID is not in it: whoever knows it can activate."""
    return Event(
        kind=EventKind.ENTITLEMENT_CREATED,
        at=now,
        account=entitlement.account,
        data={
            "by": by,
            "lines": [
                {"line": line.line_id, "product": line.product.sku, "quantity": line.balances.bought}
                for line in entitlement.lines
            ],
        },
    )


def restore_announced(*, lines: int, field_servers: int, now: int) -> Event:
    """The data is an old backup."""
    data = {"frozen_lines": lines, "field_servers": field_servers}
    return Event(kind=EventKind.RESTORED, at=now, account=None, data=data)


def lines_frozen(*, lines: int, now: int) -> Event:
    """Lines that do not grow until a person lifts it, because the data is an old backup."""
    return Event(kind=EventKind.LINES_FROZEN, at=now, account=None, data={"lines": lines})


def _of_lines(changes: Changes, before: Mapping[LineId, Line], now: int) -> Iterator[Event]:
    moved = {entry.line_id for entry in changes.entries if entry.target in _OUTSIDE or entry.source is Account.BOUGHT}
    lifted = told = 0
    for line_id, line in changes.lines.items():
        old = before.get(line_id)
        if old is None:
            continue
        lifted += old.frozen and not line.frozen
        if line_id in moved or _terms(old) != _terms(line):
            told += 1
            if told <= _PER_LINE_MAX:
                yield Event(kind=EventKind.LINE_CHANGED, at=now, account=line.account, data=_line_view(line))
    if lifted:
        yield Event(kind=EventKind.FREEZE_LIFTED, at=now, account=None, data={"lines": lifted})


def _line_view(line: Line) -> dict[str, Any]:
    return {
        "line": line.line_id,
        "product": line.product.sku,
        "quantity": line.balances.bought - line.balances.retired,
        "available": line.balances.available,
        "expires_at": line.expires_at,
        "engineering": line.engineering,
        "suspended": line.suspended,
    }


def _of_standing(changes: Changes, before: Mapping[DeviceId, FieldServer], now: int) -> Iterator[Event]:
    declared = {declaration.device_id: declaration for declaration in changes.declarations}
    for device_id, server in changes.field_servers.items():
        old = before.get(device_id)
        was = old.status if old else None
        declaration = declared.get(device_id)
        if declaration is None and server.status is was:
            continue
        if declaration is not None and declaration.undone_at is None:
            data = _server_view(server) | {"reason": declaration.reason, "by": declaration.by}
            data |= {"override_by": declaration.override_by, "lost_until": server.lost_until}
            yield Event(kind=EventKind.DECLARED_LOST, at=now, account=server.account, data=data)
        elif was is Status.LOST and server.status is not Status.LOST:
            is_settled = server.status is Status.RETIRED or declaration is None
            kind = EventKind.LOST_SETTLED if is_settled else EventKind.LOST_UNDONE
            yield Event(kind=kind, at=now, account=server.account, data=_server_view(server))
        if server.status is Status.HOLD and was is not Status.HOLD:
            yield Event(kind=EventKind.HELD, at=now, account=server.account, data=_server_view(server))
        elif was is Status.HOLD and server.status is not Status.HOLD and declaration is None:
            yield Event(kind=EventKind.RELEASED, at=now, account=server.account, data=_server_view(server))
        if server.status is Status.ACTIVE and was in {None, Status.LISTED}:
            yield Event(kind=EventKind.ENROLLED, at=now, account=server.account, data=_server_view(server))


def _of_rights(changes: Changes, lines: Mapping[LineId, Line], now: int) -> Iterator[Event]:
    grouped: dict[tuple[DeviceId, EventKind], dict[LineId, int]] = {}
    for entry in changes.entries:
        kind = _kind_of(entry.source, entry.target)
        if kind is not None and entry.device_id is not None:
            sums = grouped.setdefault((entry.device_id, kind), {})
            sums[entry.line_id] = sums.get(entry.line_id, 0) + entry.quantity
    for (device_id, kind), sums in grouped.items():
        server = changes.field_servers.get(device_id)
        data: dict[str, Any] = _server_view(server) if server else {"device_id": device_id}
        data["lines"] = [
            {"line": line_id, "product": lines[line_id].product.sku, "quantity": quantity}
            for line_id, quantity in sums.items()
        ]
        account = lines[next(iter(sums))].account  # a field server serves one account
        yield Event(kind=kind, at=now, account=account, data=data)


@cache
def _kind_of(source: Account, target: Account) -> EventKind | None:
    if source is Account.AVAILABLE and target is Account.HELD:
        return EventKind.ACTIVATION_GRANTED
    if source is Account.BOUGHT:
        return None
    return _MOVED.get(target)


def _of_refusals(changes: Changes, now: int) -> Iterator[Event]:
    for message in changes.messages:
        if message.answer.outcome is MessageOutcome.REFUSED:
            server = changes.field_servers.get(message.device_id)
            data = _server_view(server) if server else {"device_id": message.device_id}
            data |= {"purpose": message.purpose, "code": message.answer.code, "detail": message.answer.detail}
            yield Event(kind=EventKind.REFUSED, at=now, account=server.account if server else None, data=data)


def _of_incidents(changes: Changes, now: int) -> Iterator[Event]:
    for incident in changes.incidents:
        server = changes.field_servers.get(incident.device_id)
        data = _server_view(server) if server else {"device_id": incident.device_id}
        data |= {"incident": incident.kind.value, "detail": incident.detail}
        yield Event(kind=EventKind.INCIDENT, at=now, account=server.account if server else None, data=data)


def _server_view(server: FieldServer) -> dict[str, Any]:
    return {"device_id": server.device_id, "name": server.name, "status": str(server.status)}


def all_kinds() -> Iterable[str]:
    """Every kind, by name."""
    return [kind.value for kind in EventKind]
