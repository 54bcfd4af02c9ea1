"""Home: what needs attention. Counts are of all there is; what has no room is said to be left out."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import PageRequest
from tallystick.activation.services import entitlements, field_servers, home, incidents
from tallystick.activation.services.home import DAY_SECONDS, SOON_DAYS
from tallystick.activation.services.incidents import NOT_OVER

_SHOWN: Final = 20


async def home_page(page: PageRequest) -> Response:
    """What needs attention."""
    caller, office = page.who.caller, page.office
    returns = await page.do(field_servers.find_open_returns, office, caller, limit=_SHOWN)
    if not caller.may(Permission.READ):
        return await page.show("home_technician.html", returns=returns)
    now = office.clock()
    soon = now + SOON_DAYS * DAY_SECONDS
    return await page.show(
        "home.html",
        counts=await page.do(home.count, office, caller),
        returns=returns,
        incidents=await page.do(incidents.find_incidents, office, caller, states=NOT_OVER, limit=_SHOWN),
        used_up=await page.do(entitlements.find_lines, office, caller, is_used_up=True, limit=_SHOWN),
        expiring=await page.do(entitlements.find_lines, office, caller, expires_before=soon, limit=_SHOWN),
        now=now,
    )
