"""The audit trail, as who may sees it."""

from __future__ import annotations

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.services.base import Office
from tallystick.activation.services.schemas import RecordDocument
from tallystick.domain.ids import EntitlementId, entitlement_reference


def find_records(office: Office, caller: Caller, *, before: int | None, limit: int) -> list[RecordDocument]:
    """The audit trail, newest first."""
    found = office.read(
        caller,
        Permission.READ_TRAIL,
        lambda transaction: transaction.trail.find(caller.scope, before=before, limit=limit),
    )
    return [
        RecordDocument(
            number=entry.number,
            at=entry.at,
            actor=entry.actor,
            role=entry.role,
            account=entry.account,
            action=entry.action,
            target=_shown_target(entry.target),
            detail=entry.detail,
        )
        for entry in found
    ]


def _shown_target(target: str) -> str:
    """What was written before entitlements had references names them by their ID, which opens them."""
    return entitlement_reference(EntitlementId(target)) if target.startswith("EN-") else target
