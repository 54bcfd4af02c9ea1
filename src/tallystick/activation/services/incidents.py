"""Incidents: what was noticed, who looks at it, and what ended it.

One is open until somebody acknowledges it, and over when it is resolved: by the release of a hold, by a fence that was proven,
by the clock that was confirmed, or by a person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.core.ports import (
    Changes,
    Event,
    EventKind,
    FieldServer,
    Handling,
    IncidentKind,
    IncidentState,
    Resolution,
)
from tallystick.activation.services.base import Office, OfficeError, not_found, record
from tallystick.activation.services.schemas import IncidentDocument
from tallystick.activation.storage import SqlTransaction
from tallystick.activation.storage.incidents import NumberedIncident
from tallystick.sentences import N_, _

NOT_OVER: Final = (IncidentState.OPEN, IncidentState.ACKNOWLEDGED)
INCIDENT_STEPS: Final = {
    IncidentKind.ROLLBACK: N_(
        "Nothing is lost: its next contact sets it right. Find out who put an old disk or backup back."
    ),
    IncidentKind.FORK: N_("Find the second copy (a clone or a restored backup) and stop it; then release the hold."),
    IncidentKind.EPOCH_BEHIND: N_(
        "Nothing is lost: its next contact sets it right. Find out whether a copy of it runs."
    ),
    IncidentKind.REAPPEARED: N_("It lives. If others got its licenses meanwhile, return them from one of the two."),
    IncidentKind.HOST_ID_TAKEN: N_(
        "If it replaces the other one, declare that one lost: the host id is free at once, and what that one held waits in quarantine. If not, one of the two is a copy."
    ),
    IncidentKind.CLOCK_JUMPED: N_(
        "Set the clock right, find out what set it, then: tallystick activation clock --confirm."
    ),
    IncidentKind.GRANT_ADOPTED: N_("Expected after a restore. When all were heard from, lift the freeze of the lines."),
}


def find_incidents(
    office: Office,
    caller: Caller,
    *,
    kind: IncidentKind | None = None,
    device_id: str | None = None,
    states: Collection[IncidentState] = (),
    before: int | None = None,
    limit: int = 100,
) -> list[IncidentDocument]:
    """What was noticed, newest first, and what a person can do. ``states``: only those that stand there; none: all."""

    def work(transaction: SqlTransaction) -> list[IncidentDocument]:
        tables = transaction.within(caller.scope)
        found = tables.incidents(kind=kind, device_id=device_id, states=states, before=before, limit=limit)
        servers = tables.field_servers_by_id({noticed.incident.device_id for noticed in found})
        return [_document(noticed, servers.get(noticed.incident.device_id)) for noticed in found]

    return office.read(caller, Permission.READ, work)


def load_incident(office: Office, caller: Caller, number: int) -> IncidentDocument:
    """One incident."""
    return office.read(caller, Permission.READ, lambda transaction: _one(transaction, caller, number))


def acknowledge(office: Office, caller: Caller, number: int, *, note: str) -> IncidentDocument:
    """Somebody looks at it. Whoever says so last counts."""

    def change(before: Handling, now: int) -> Handling:
        return before.acknowledge(at=now, by=caller.name, note=note)

    return _handle(
        office, caller, number, change, kind=EventKind.INCIDENT_ACKNOWLEDGED, action="incident-acknowledge", note=note
    )


def resolve(office: Office, caller: Caller, number: int, *, note: str) -> IncidentDocument:
    """It is over, a person says."""

    def change(before: Handling, now: int) -> Handling:
        return before.resolve(at=now, by=caller.name, how=Resolution.PERSON, note=note)

    return _handle(
        office, caller, number, change, kind=EventKind.INCIDENT_RESOLVED, action="incident-resolve", note=note
    )


def resolve_all(
    transaction: SqlTransaction,
    kinds: Sequence[IncidentKind],
    device_id: str,
    *,
    by: str | None,
    how: Resolution,
    now: int,
) -> None:
    """What a person did ended the incidents of some kinds of a field server."""
    _end(transaction, transaction.incidents.unresolved(kinds, device_id), by=by, how=how, now=now)


def settle_fenced(transaction: SqlTransaction, *, now: int) -> int:
    """End the incidents of field servers that proved a grant made since. Returns how many."""
    found = transaction.incidents.fenced()
    _end(transaction, found, by=None, how=Resolution.FENCE, now=now)
    return len(found)


def _end(
    transaction: SqlTransaction, found: Sequence[NumberedIncident], *, by: str | None, how: Resolution, now: int
) -> None:
    for noticed in found:
        transaction.incidents.save(noticed.number, noticed.handling.resolve(at=now, by=by, how=how))
    if found:
        told = [_event(EventKind.INCIDENT_RESOLVED, noticed, by=by, note="", how=how, now=now) for noticed in found]
        transaction.save(Changes(events=told))


def _handle(
    office: Office,
    caller: Caller,
    number: int,
    change: Callable[[Handling, int], Handling],
    *,
    kind: EventKind,
    action: str,
    note: str,
) -> IncidentDocument:
    def work(transaction: SqlTransaction, now: int) -> IncidentDocument:
        transaction.incidents.lock(number)
        noticed = _noticed(transaction, caller, number)
        if noticed.handling.state is IncidentState.RESOLVED:
            raise OfficeError(
                "incident-over",
                expected=_("an incident that is not resolved"),
                seen=_("resolved by {how}", how=noticed.handling.resolution),
            )
        after = change(noticed.handling, now)
        transaction.incidents.save(number, after)
        event = _event(kind, noticed, by=caller.name, note=note, how=after.resolution, now=now)
        transaction.save(Changes(events=[event]))
        record(transaction, caller, action, str(number), account=noticed.account, now=now, detail=note)
        return _one(transaction, caller, number)

    return office.change(caller, Permission.HOLD, work)


def _event(
    kind: EventKind, noticed: NumberedIncident, *, by: str | None, note: str, how: Resolution | None, now: int
) -> Event:
    incident = noticed.incident
    data: dict[str, object] = {
        "device_id": incident.device_id,
        "incident": incident.kind.value,
        "number": noticed.number,
    }
    data |= {"by": by, "note": note, "resolution": how}
    return Event(kind=kind, at=now, account=noticed.account, data=data)


def _noticed(transaction: SqlTransaction, caller: Caller, number: int) -> NumberedIncident:
    found = transaction.within(caller.scope).incident(number)
    if found is None:
        raise not_found(_("an incident that is known here"), str(number))
    return found


def _one(transaction: SqlTransaction, caller: Caller, number: int) -> IncidentDocument:
    noticed = _noticed(transaction, caller, number)
    return _document(noticed, transaction.within(caller.scope).field_server(noticed.incident.device_id))


def _document(noticed: NumberedIncident, server: FieldServer | None) -> IncidentDocument:
    incident, handling = noticed.incident, noticed.handling
    return IncidentDocument(
        number=noticed.number,
        kind=incident.kind,
        state=handling.state,
        device_id=incident.device_id,
        device_name=server.name if server else None,
        account=noticed.account,
        at=incident.at,
        detail=incident.detail,
        digest=incident.digest,
        next_step=INCIDENT_STEPS[incident.kind] if handling.state is not IncidentState.RESOLVED else "",
        acknowledged_at=handling.acknowledged_at,
        acknowledged_by=handling.acknowledged_by,
        acknowledged_note=handling.acknowledged_note,
        resolved_at=handling.resolved_at,
        resolved_by=handling.resolved_by,
        resolved_note=handling.resolved_note,
        resolution=handling.resolution,
    )
