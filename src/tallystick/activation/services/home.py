"""What needs attention: how many there are of each, whatever a page has room for."""

from __future__ import annotations

from typing import Final

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.services.base import Office
from tallystick.activation.storage.scoped import Counts

DAY_SECONDS: Final = 86_400
SOON_DAYS: Final = 30


def count(office: Office, caller: Caller) -> Counts:
    """Open returns, incidents that are not over, lines that are used up, or that expire within a month or did."""
    soon = office.clock() + SOON_DAYS * DAY_SECONDS
    return office.read(
        caller,
        Permission.READ,
        lambda transaction: transaction.within(caller.scope).count(expires_before=soon),
    )
