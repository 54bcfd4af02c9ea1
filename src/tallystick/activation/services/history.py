"""What a field server said and what was done to it, as one list, newest first, read page by page."""

from __future__ import annotations

import re
from typing import Final

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.core.ports import IssuedGrant, LostDeclaration, MessageOutcome, TakenMessage
from tallystick.activation.services.base import Office, not_found
from tallystick.activation.services.incidents import INCIDENT_STEPS
from tallystick.activation.services.schemas import EventDocument
from tallystick.activation.storage import HistoryCursor, NumberedIncident, SqlTransaction
from tallystick.protocol.problems import problem_for
from tallystick.sentences import N_, _

CURSOR_PATTERN: Final = "^[0-9]{1,12}[.][0-3][.][0-9]{1,16}[.][A-Za-z0-9_-]{0,43}$"
_CURSOR: Final = re.compile(CURSOR_PATTERN)
_ASKED: Final = {
    "activate": N_("Asked to activate"),
    "return": N_("Asked to return"),
    "refresh": N_("Asked what it should hold"),
    "confirm": N_("Confirmed what it applied"),
    "relinquish": N_("Gave everything up"),
}


def find_history(
    office: Office, caller: Caller, device_id: str, *, before: str | None = None, limit: int = 100
) -> tuple[list[EventDocument], str | None]:
    """Everything that a field server said and that was done to it, newest first; and where the next page begins.

    ``before``: as the page before gave it, of ``CURSOR_PATTERN``.
    """
    cursor = parse_cursor(before)

    def work(transaction: SqlTransaction) -> tuple[list[EventDocument], str | None]:
        tables = transaction.within(caller.scope)
        if tables.field_server(device_id) is None:
            raise not_found(_("a field server that is known here"), device_id)
        found = tables.history(device_id, before=cursor, limit=limit + 1)
        following = format_cursor(found[limit - 1][0]) if len(found) > limit else None
        return [_event(what) for _other, what in found[:limit]], following

    return office.read(caller, Permission.READ, work)


def parse_cursor(text: str | None) -> HistoryCursor | None:
    """A cursor in the history; None for a text that is none: the list begins at its beginning."""
    if text is None or not _CURSOR.fullmatch(text):
        return None
    at, source, number, digest = text.split(".")
    return HistoryCursor(at=int(at), source=int(source), number=int(number), digest=digest)


def format_cursor(cursor: HistoryCursor) -> str:
    """The reverse of ``parse_cursor``."""
    return f"{cursor.at}.{cursor.source}.{cursor.number}.{cursor.digest}"


def _event(what: TakenMessage | IssuedGrant | NumberedIncident | LostDeclaration) -> EventDocument:
    match what:
        case TakenMessage():
            return _message_event(what)
        case IssuedGrant():
            return EventDocument(
                at=what.issued_at,
                kind="started-here",
                title=_("A return or change was started here"),
                detail=_("grant {number}", number=what.number),
                next_step=_("Carry it to the field server, and its proof back."),
                digest=what.digest,
                is_alarming=False,
            )
        case NumberedIncident():
            return EventDocument(
                at=what.incident.at,
                kind="incident",
                title=_("Incident: {kind}", kind=what.incident.kind.value),
                detail=what.incident.detail,
                next_step=_(INCIDENT_STEPS[what.incident.kind]),
                digest=what.incident.digest,
                is_alarming=True,
            )
        case LostDeclaration():
            said = _("by {by}: {reason}.", by=what.by, reason=what.reason)
            if what.override_by:
                said = _(
                    "by {by}, allowed by {other}: {reason}.", by=what.by, other=what.override_by, reason=what.reason
                )
            if what.undone_at:
                said = _("{said} It was undone.", said=said)
            return EventDocument(
                at=what.at,
                kind="declared-lost",
                title=_("Declared lost"),
                detail=said,
                next_step="",
                digest=None,
                is_alarming=True,
            )


def _message_event(message: TakenMessage) -> EventDocument:
    answer = message.answer
    asked = _ASKED.get(message.purpose, message.purpose)
    refused = answer.outcome is MessageOutcome.REFUSED
    next_step = problem_for(answer.code).next_step if refused and answer.code else ""
    return EventDocument(
        at=message.taken_at,
        kind="message",
        title=_("{asked}: {outcome}", asked=_(asked), outcome=answer.outcome.value),
        detail=answer.detail.removesuffix(next_step).strip()
        if refused
        else _("message {sequence} of epoch {epoch}", sequence=message.sequence, epoch=message.epoch),
        next_step=next_step,
        digest=message.digest,
        is_alarming=refused,
    )
