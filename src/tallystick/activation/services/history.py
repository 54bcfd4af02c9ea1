"""What a field server said and what was done to it, as one list, newest first, read page by page."""

from __future__ import annotations

import re
from typing import Final

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.core.ports import IssuedGrant, LostDeclaration, MessageOutcome, TakenMessage
from tallystick.activation.services.base import Office, not_found
from tallystick.activation.services.field_servers import INCIDENT_STEPS
from tallystick.activation.services.schemas import EventDocument
from tallystick.activation.storage import HistoryCursor, NumberedIncident, SqlTransaction
from tallystick.protocol.problems import problem_for

PLACE_PATTERN: Final = "^[0-9]{1,12}[.][0-3][.][0-9]{1,16}[.][A-Za-z0-9_-]{0,43}$"
_PLACE: Final = re.compile(PLACE_PATTERN)


def find_history(
    office: Office, caller: Caller, device_id: str, *, before: str | None = None, limit: int = 100
) -> tuple[list[EventDocument], str | None]:
    """Everything that a field server said and that was done to it, newest first; and where the next page begins.

    ``before``: as the page before gave it, of ``PLACE_PATTERN``.
    """
    place = parse_place(before)

    def work(transaction: SqlTransaction) -> tuple[list[EventDocument], str | None]:
        tables = transaction.within(caller.scope)
        if tables.field_server(device_id) is None:
            raise not_found("a field server that is known here", device_id)
        found = tables.history(device_id, before=place, limit=limit + 1)
        following = format_place(found[limit - 1][0]) if len(found) > limit else None
        return [_event(what) for _, what in found[:limit]], following

    return office.read(caller, Permission.READ, work)


def parse_place(text: str | None) -> HistoryCursor | None:
    """A place in the history; None for a text that is none: the list begins at its beginning."""
    if text is None or not _PLACE.fullmatch(text):
        return None
    at, source, number, digest = text.split(".")
    return HistoryCursor(at=int(at), source=int(source), number=int(number), digest=digest)


def format_place(place: HistoryCursor) -> str:
    """The reverse of ``parse_place``."""
    return f"{place.at}.{place.source}.{place.number}.{place.digest}"


def _event(what: TakenMessage | IssuedGrant | NumberedIncident | LostDeclaration) -> EventDocument:
    match what:
        case TakenMessage():
            return _message_event(what)
        case IssuedGrant():
            return EventDocument(
                at=what.issued_at,
                kind="started-here",
                title="A return or change was started here",
                detail=f"grant {what.number}",
                next_step="Carry it to the field server, and its proof back.",
                digest=what.digest,
                is_alarming=False,
            )
        case NumberedIncident():
            return EventDocument(
                at=what.incident.at,
                kind="incident",
                title=f"Incident: {what.incident.kind.value}",
                detail=what.incident.detail,
                next_step=INCIDENT_STEPS[what.incident.kind],
                digest=what.incident.digest,
                is_alarming=True,
            )
        case LostDeclaration():
            override = f", allowed by {what.override_by}" if what.override_by else ""
            undone = " It was undone." if what.undone_at else ""
            return EventDocument(
                at=what.at,
                kind="declared-lost",
                title="Declared lost",
                detail=f"by {what.by}{override}: {what.reason}.{undone}",
                next_step="",
                digest=None,
                is_alarming=True,
            )


def _message_event(message: TakenMessage) -> EventDocument:
    answer = message.answer
    titles = {
        "activate": "Asked to activate",
        "return": "Asked to return",
        "refresh": "Asked what it should hold",
        "confirm": "Confirmed what it applied",
        "relinquish": "Gave everything up",
    }
    refused = answer.outcome is MessageOutcome.REFUSED
    next_step = problem_for(answer.code).next_step if refused and answer.code else ""
    return EventDocument(
        at=message.taken_at,
        kind="message",
        title=f"{titles.get(message.purpose, message.purpose)}: {answer.outcome.value}",
        detail=answer.detail.removesuffix(next_step).strip()
        if refused
        else f"message {message.sequence} of epoch {message.epoch}",
        next_step=next_step,
        digest=message.digest,
        is_alarming=refused,
    )
